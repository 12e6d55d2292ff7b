"""Whether a study may be answered with figures: refusals, and flags that are reported with the answer.

Limits are applied to figures rounded as the flags' sentences show them: otherwise 799.7 mL would be reported as "800 mL
is outside 800 to 10000 mL". The same figures elsewhere in the report have more decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dicom_node.errors import NotAnalysable, NotForHilum
from dicom_node.kernels import is_sharp
from worker.findings import Flag, Lungs, Measurement, Severity
from worker.frames import names_chest, refusal
from worker.lungs import TISSUE_HU
from worker.volume import Volume

FEWEST_SLICES = 10
SHORTEST_MM = 100.0
"""A lung at full inspiration is some 250 mm high; a shorter scan than this cannot hold most of it."""

LUNG_ML = (800.0, 10_000.0)
"""Both lungs of an adult, from deep expiration to emphysema in full inspiration."""

ONE_LUNG_ML = 100.0
LEFT_TO_RIGHT = (0.4, 1.5)
"""Volume of the left lung divided by that of the right: usually 0.8 to 0.95."""

LUNG_MEAN_HU = (-930.0, -600.0)
"""Mean HU of lung free of infection. Below: emphysema or a wrong rescale; above: expiration, oedema, or a mask that
includes other tissue. In nine patients with masks it is -831 to -758 HU; with infection included, one has -626 HU."""

LEAST_FREE_SHARE = 0.1
"""If less than this share of the lung is free of infection, the mean HU of all lung is checked instead."""

THICK_MM = 5.0

CUT_OFF_SHARE, RECESS_SHARE = 0.10, 0.01
"""Lung area in the first or last slice, as a share of the largest slice's: above the first, too much lung is missing.

A lung that tapers to nothing from a tenth of its largest area, within some 3 cm, loses about 1 % of its volume. Between
the second share and the first, only the tip of a recess or an apex is missing.
"""

OPEN_HU = (-950, -600)
"""Aerated lung: denser than air outside, in airways and bowel; less dense than partial volume at a dome or a rib."""

OPEN_SHARE = 0.05
"""Limit of aerated lung that was missed right beside lung of the next slice, as a share of the largest slice's lung.

If the sides of the image cut a lung open in some slices, it is connected there with the air outside, and is lost from
these slices entirely. In four real chests, with slices 2 to 8 mm apart, the share is at most 0.01 in the whole images,
and 0.17 or more if the field of view cuts two columns off a lung.
"""

DIFFERENCE_PERCENT, DIFFERENCE_SHARE = 1.0, 0.5
"""Limits of the difference between the readings of slices and of mirrored slices; above both, a network is unsure.

The first is in percent of the lung, the second a share of the infection found. docs/models.md has the differences on
patients that the network never saw.
"""


def require_chest_extent(volume: Volume) -> None:
    """Refuse a volume that cannot hold the lungs: too few slices, too short, or not axial.

    Raises
    ------
    NotAnalysable, NotForHilum
    """
    count = len(volume.hu)
    extent_mm = round(volume.geometry.spacing_mm[0] * count)
    if count < FEWEST_SLICES or extent_mm < SHORTEST_MM:
        message = (
            f"expected at least {FEWEST_SLICES} slices over {SHORTEST_MM:.0f} mm, "
            f"got {count} over {extent_mm} mm; send the series that covers the chest"
        )
        raise refusal(volume.body_part, "too-short", message)
    if not volume.geometry.is_axial:
        message = "expected axial slices, got coronal or sagittal ones; send the axial series"
        raise refusal(volume.body_part, "not-axial", message)


def require_lungs(volume: Volume, lungs: Lungs) -> None:
    """Refuse a scan in which no lung of plausible size was found.

    Raises
    ------
    NotAnalysable
        The lungs are missing, but the header names the chest: the sender must be told.
    NotForHilum
        The lungs are missing, and the header does not name the chest: nothing says that this is one.
    """
    found_ml = round(int(lungs.slice_voxels.sum()) * lungs.geometry.voxel_volume_ml)
    if found_ml >= ONE_LUNG_ML:
        return
    message = (
        f"expected aerated lungs of at least {ONE_LUNG_ML:.0f} mL, found {found_ml} mL; "
        "this is no chest, or both lungs are too dense to be found"
    )
    raise (NotAnalysable if names_chest(volume.body_part) else NotForHilum)("no-lungs", message)


def flags_of(volume: Volume, lungs: Lungs, measurements: Sequence[Measurement]) -> tuple[Flag, ...]:
    """Return the doubts about a measurement, beginning with those found when the volume was read."""
    scan = (*_empty_slices(volume, lungs), *_coverage(lungs), *_sides(volume, lungs))
    return (*volume.flags, *scan, *_plausibility(measurements), *_protocol(volume))


def disagreement(found_percent: float, difference_percent: float) -> Iterator[Flag]:
    """Yield a flag if a network reads slices and their mirror images too differently.

    Its message contains no figure: a reader would take it for the percentage that is withheld.

    Parameters
    ----------
    found_percent, difference_percent : float
        Infection found (the mean of both readings), and infection that only one of them found, in percent of the lung.
    """
    if difference_percent > max(DIFFERENCE_PERCENT, DIFFERENCE_SHARE * found_percent):
        message = (
            "The network is unsure: it reads the slices and their mirror images too differently. "
            "This scan is unlike those that it was trained on."
        )
        yield Flag("network-unsure", message, withholds_percentage=True)


def unaerated(severity: Severity | None) -> Iterator[Flag]:
    """Yield a flag if a zone has no score for lack of aerated lung: all of it may be infected, and is not counted."""
    zones = [f"{zone.side} {zone.level}" for zone in severity.zones if zone.score is None] if severity else []
    if zones:
        where = f"{' and the '.join(zones)} zone{'s' if len(zones) > 1 else ''}"
        yield Flag("zone-without-lung", f"No aerated lung was found in the {where}: PoIR may be too low.")


def _empty_slices(volume: Volume, lungs: Lungs) -> Iterator[Flag]:
    """Yield a flag if a slice without tissue lies in the patient, which it divides, or beside lung, which it cuts off.

    Lungs are sought only in the largest piece of the body. Empty slices beyond the patient do no harm. A slice of one
    value is empty whatever that value is: blank pixels are 0 HU where Rescale Intercept is 0.
    """
    has_tissue = np.array([plane.max() > TISSUE_HU and plane.min() < plane.max() for plane in volume.hu])
    beside_lung = np.convolve(lungs.slice_voxels > 0, (1, 1, 1), "same") > 0
    needed = np.flatnonzero(has_tissue | beside_lung)
    if not has_tissue[needed[0] : needed[-1] + 1].all():
        message = "A slice within the patient, or next to the lungs, is empty: parts of the lungs may be missing."
        yield Flag("empty-slice", message, withholds_percentage=True)


def _coverage(lungs: Lungs) -> Iterator[Flag]:
    slices = lungs.geometry.anatomical(lungs.labels)  # feet to head, whichever way the slices' normal points
    areas = np.array([np.count_nonzero(plane) for plane in slices])
    for end, height, area in (("feet", "lowest", areas[0]), ("head", "highest", areas[-1])):
        share = area / areas.max()
        if share > CUT_OFF_SHARE:
            message = (
                f"The lungs reach beyond the {height} slice (towards the {end}): the scan does not cover them whole."
            )
            yield Flag(f"cut-off-{end}", message, withholds_percentage=True)
        elif share > RECESS_SHARE:
            message = f"At most about 1 % of the lungs lies beyond the {height} slice (towards the {end})."
            yield Flag(f"tip-cut-off-{end}", message)


def _sides(volume: Volume, lungs: Lungs) -> Iterator[Flag]:
    pairs = [pair for z in range(len(volume.hu) - 1) for pair in ((z, z + 1), (z + 1, z))]
    widest = max((_open_voxels(volume, lungs, *pair) for pair in pairs), default=0)
    if widest > OPEN_SHARE * lungs.slice_voxels.max():
        message = (
            "A lung ends in the midst of aerated lung: it reaches beyond the sides of the image, or a part was missed."
        )
        yield Flag("cut-off-sides", message, withholds_percentage=True)


def _open_voxels(volume: Volume, lungs: Lungs, of: int, beyond: int) -> int:
    """Return the number of pixels with lung in slice ``of``, and with aerated HU but no lung in slice ``beyond``."""
    low, high = OPEN_HU
    hu = volume.hu[beyond]
    is_aerated = (hu > low) & (hu < high)
    return int(np.count_nonzero((lungs.labels[of] != 0) & (lungs.labels[beyond] == 0) & is_aerated))


def _plausibility(measurements: Sequence[Measurement]) -> Iterator[Flag]:
    both, left, right = (next(m for m in measurements if m.site == site) for site in ("both", "left", "right"))
    for m in (left, right):
        if m.lung_volume_ml < ONE_LUNG_ML:
            yield Flag(f"no-{m.site}-lung", f"The {m.site} lung was not found, or is not aerated.", True)
    low, high = LUNG_ML
    lung_ml = round(both.lung_volume_ml)
    if not low <= lung_ml <= high:
        message = f"The lung volume of {lung_ml} mL is outside {low:.0f} to {high:.0f} mL."
        yield Flag("lung-volume", message, withholds_percentage=True)
    low, high = LEFT_TO_RIGHT
    if min(left.lung_volume_ml, right.lung_volume_ml) >= ONE_LUNG_ML:
        ratio = round(left.lung_volume_ml / right.lung_volume_ml, 2)
        if not low <= ratio <= high:
            message = f"Left to right lung volume is {ratio:.2f}, outside {low} to {high}: part of a lung is missed."
            yield Flag("lung-ratio", message, withholds_percentage=True)
    low, high = LUNG_MEAN_HU
    mean_hu = _free_mean_hu(both)
    if mean_hu is not None and not low <= round(mean_hu) <= high:
        message = f"The mean of lung free of infection, {mean_hu:.0f} HU, is outside {low:.0f} to {high:.0f} HU."
        yield Flag("lung-density", message, withholds_percentage=True)


def _free_mean_hu(m: Measurement) -> float | None:
    """Return the mean HU of lung free of infection, or of all lung if too little is free.

    Infection is left out because it is dense, which is no reason for doubt.
    """
    free_ml = m.lung_volume_ml - m.infection_volume_ml
    if m.lung_mean_hu is None or m.infection_mean_hu is None or free_ml < LEAST_FREE_SHARE * m.lung_volume_ml:
        return m.lung_mean_hu
    return (m.lung_mean_hu * m.lung_volume_ml - m.infection_mean_hu * m.infection_volume_ml) / free_ml


def _protocol(volume: Volume) -> Iterator[Flag]:
    if is_sharp(volume.kernel):  # a sharp kernel shifts the aerated volume by up to 14 % (PMC7843021)
        yield Flag("sharp-kernel", f"The kernel {volume.kernel} is sharp: it shifts densities and adds noise.")
    if volume.has_contrast_agent:
        yield Flag("contrast", "A contrast agent was given: it raises the density of vessels and lungs.")
    apart_mm, thick_mm = volume.geometry.spacing_mm[0], volume.slice_thickness_mm or 0.0
    slice_mm = round(max(apart_mm, thick_mm), 1)
    if slice_mm > THICK_MM:
        how = "thick" if thick_mm > apart_mm else "apart"
        yield Flag("thick-slices", f"Slices are {slice_mm:.1f} mm {how}: small lesions and edges are uncertain.")
