"""Which series of a study is measured? Pure functions: headers in, a choice with reasons out."""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pydicom.uid import UID

from dicom_node.errors import NotAnalysable, NotForHilum, RejectedInput
from dicom_node.headers import NOT_HOUNSFIELD, SeriesHeader, Vector, what_is_unread
from dicom_node.kernels import is_sharp
from dicom_node.settings import SelectionSettings

AXIAL_WITHIN_DEGREES = 35.0
"""A tilted gantry (up to 30 degrees) is still axial; a coronal or sagittal reformat is not."""

LEAST_SINE = 1e-6
"""Least sine of the angle between row and column; directions that are closer to parallel span no plane."""

SAME_PLACE = 0.1, 0.01
"""The worker refuses slices that are nearer than this share of the usual distance, or nearer than this in mm."""

_MULTI_ENERGY = frozenset(
    {"VMI", "MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MAT_MODIFIED"}
    | {"MAT_VALUE_BASED"}
)
"""Terms in Image Type of images that were computed from several energies (PS3.3 C.8.2.1.1.1), even if it says ORIGINAL.

Their values differ from those of a conventional CT, even in Hounsfield units (PS3.17 JJJJ.4).
"""

Quality = tuple[bool, bool, bool, bool, float, bool, float]
"""Whether a series names another part than the chest; whether it has places with two slices; whether it is derived;
whether its kernel is sharp; how far its thickness is off, in mm; whether it does not name the chest; minus its slices.
"""

_CHEST = re.compile(
    r"CHEST|THORA(?!CIC SPINE|COLUMB)|TORAX|TORAKS|LUNG|PULM|POLMON|MEDIAST|胸[部腹腔]|肺|[纵縦]隔"
    r"|(?<!COLUNA )(?<!COLUMNA )(?<!COLONNA )(?<!RACHIDE )TORAC(?!OLOM|OLUM)"
)
"""Words for the chest, without accents; not those for its spine or for the sternum."""

_OTHER_PARTS = re.compile(
    r"\b(?:HEAD|BRAIN|SKULL|NECK|SINUS(?:ES)?|PNS|NNH|ORBITS?|CSPINE|LSPINE|PELVIS|HIPS?|LEG|KNEES?|ANKLE|FOOT|ARM"
    r"|SHOULDER|ELBOW|WRIST|HAND|EXTREMITY|EARS?|INNER EAR|IAC|IAM|INTERNAL AUDITORY CANAL|TEMPORAL ?(?:BONES?)?"
    r"|PETROUS(?: BONES?)?|MASTOIDS?|FELSENBEINE?|ROCHERS?)\b"
)
"""Body parts that hold no lung; others, such as ABDOMEN, may be coded beside a chest."""

_BELOW_CHEST = re.compile(r"ABD|ADDOM|BAUCH|LIVER|LEBER|HEPAT|KIDNEY|RENAL|PELVI|BECKEN|SPINE|[腹盆肝]")
"""Parts whose series may reach into the lungs: they are measured, but only if there is no other series."""


@dataclass(frozen=True)
class Selection:
    """The chosen series, or why there is none; and for every series why it was chosen or not."""

    series: SeriesHeader | None
    reasons: dict[str, str] = field(default_factory=dict)
    rejection: RejectedInput | None = None


def select_series(found: Sequence[SeriesHeader], settings: SelectionSettings) -> Selection:
    """Choose the series to measure.

    Each rule may reject a series. Among the series left, the preferences decide, in this order: any other before one
    that names another part than the chest, one slice at each place before several (such as several phases in one
    series), original before derived, a smooth kernel before a sharp one, the thickness nearest to the preferred one,
    one that names the chest, the most slices.
    """
    reasons = {s.series_instance_uid: rejected_because(s, settings) for s in found}
    fit = sorted((s for s in found if not reasons[s.series_instance_uid]), key=lambda s: preference(s, settings))
    if not fit:
        return Selection(None, reasons, nothing_fits(found, reasons, settings))
    chosen = fit[0]
    reasons |= {s.series_instance_uid: f"series {describe(chosen)} was preferred to {describe(s)}" for s in fit[1:]}
    reasons[chosen.series_instance_uid] = f"selected: {describe(chosen)}"
    return Selection(chosen, reasons)


def rejected_because(series: SeriesHeader, settings: SelectionSettings) -> str:
    """Return why a series cannot be measured, or an empty string."""
    rules = *RULES_OF_KIND, must_have_slices, must_have_extent
    return next((reason for rule in rules if (reason := rule(series, settings))), "")


def might_be_chosen(
    series: SeriesHeader, most_slices: float, chosen: SeriesHeader | None, settings: SelectionSettings
) -> bool:
    """Return whether a series could take the place of the chosen one if all its files could be read.

    Parameters
    ----------
    most_slices : float
        The most slices that it can have, with those in files that cannot be read.
    """
    if most_slices < settings.minimum_slices:
        return False
    if series.unread >= len(series.images):  # those that were read may not be typical
        return True
    if any(rule(series, settings) for rule in RULES_OF_KIND):
        return False
    return chosen is None or quality(series, settings, most_slices) <= quality(chosen, settings, chosen.slices)


def speaks_of_chest(words: str) -> bool:
    """Whether words, in upper case, name the chest; HRCT does too unless a body part without lungs is named as well."""
    words = "".join(letter for letter in unicodedata.normalize("NFKD", words) if not unicodedata.combining(letter))
    return bool(_CHEST.search(words)) or ("HRCT" in words and not _OTHER_PARTS.search(words))


def holds_no_lung(body_part: str) -> bool:
    """Whether Body Part Examined names a part of the body without lungs, and nothing else."""
    return bool(_OTHER_PARTS.fullmatch(body_part.strip().upper()))


def is_named_chest(series: SeriesHeader) -> bool | None:
    """Whether a series names the chest, False if only another part, None if it names no part.

    Its own description goes before the body part and this before the protocol, because in a study of several parts all
    series often share these two; they always share the study's description, which is not asked. A name such as THORAX
    ABDOMEN is one of the chest.
    """
    for attribute in ("series_description", "body_part", "protocol_name"):
        words = str(series.most_common(attribute) or "")
        if speaks_of_chest(words):
            return True
        if _OTHER_PARTS.search(words) or _BELOW_CHEST.search(words):
            return False
    return None


def must_be_ct(series: SeriesHeader, _: SelectionSettings) -> str:
    """Require CT images, by storage class and modality."""
    if series.unread and not series.images:
        return what_is_unread(series)
    if series.unreadable and not series.images:
        return f"{series.unreadable} objects could not be read as DICOM"
    if not series.ct_images or series.most_common("modality") not in ("CT", ""):
        kinds = sorted({f"{image.modality} {UID(image.sop_class_uid).name}" for image in series.images})
        return f"expected CT images, got {', '.join(kinds)}"
    return ""


def must_not_be_localizer(series: SeriesHeader, _: SelectionSettings) -> str:
    """Reject a scout, topogram or surview."""
    image_type = series.most_common("image_type")
    return "expected slices, got localizers" if isinstance(image_type, tuple) and "LOCALIZER" in image_type else ""


def must_be_primary(series: SeriesHeader, _: SelectionSettings) -> str:
    """Reject a reformat, screen save or dose report: Image Type DERIVED, SECONDARY (PS3.3 C.8.2.1.1.1)."""
    image_type = series.most_common("image_type")
    derived = isinstance(image_type, tuple) and image_type[:2] == ("DERIVED", "SECONDARY")
    return "expected images as reconstructed by the scanner, got derived ones (reformats or screens)" if derived else ""


def must_be_hounsfield(series: SeriesHeader, _: SelectionSettings) -> str:
    """Reject maps of another quantity than Hounsfield units, such as the iodine of a dual-energy scan."""
    named = series.most_common("rescale_type")
    return f"expected values in Hounsfield units (HU), got Rescale Type {named}" if named in NOT_HOUNSFIELD else ""


def must_not_be_other_part(series: SeriesHeader, _: SelectionSettings) -> str:
    """Reject a series that is coded as a part of the body without lungs."""
    part = str(series.most_common("body_part"))
    return f"expected a chest, got {part}" if holds_no_lung(part) else ""


def must_be_axial(series: SeriesHeader, _: SelectionSettings) -> str:
    """Require axial slices, by the direction cosines and never by a description."""
    orientation = series.most_common("orientation")
    if not isinstance(orientation, tuple) or len(orientation) != 6:
        return "expected Image Orientation (Patient), got none"
    degrees = math.degrees(math.acos(min(1.0, abs(normal(orientation)[2]))))
    return (
        "" if degrees <= AXIAL_WITHIN_DEGREES else f"expected axial slices, got slices {degrees:.0f} degrees off axial"
    )


def must_have_slices(series: SeriesHeader, settings: SelectionSettings) -> str:
    """Require enough slices to be a volume."""
    if series.slices >= settings.minimum_slices:
        return ""
    return f"expected at least {settings.minimum_slices} slices, got {series.slices}"


def must_have_extent(series: SeriesHeader, settings: SelectionSettings) -> str:
    """Require enough of the body to hold a good part of a lung."""
    extent = round(extent_mm(series))
    if extent >= settings.minimum_extent_mm:
        return ""
    return f"expected at least {settings.minimum_extent_mm:g} mm of the body, got {extent} mm"


def must_be_thin(series: SeriesHeader, settings: SelectionSettings) -> str:
    """Require slices that are thin enough to measure."""
    thickness = series.most_common("thickness_mm")
    if not isinstance(thickness, float) or thickness <= settings.maximum_thickness_mm:
        return ""
    return f"expected slices of at most {settings.maximum_thickness_mm:g} mm, got {thickness:g} mm"


RULES_OF_KIND: tuple[Callable[[SeriesHeader, SelectionSettings], str], ...] = (
    must_be_ct, must_not_be_localizer, must_be_primary, must_be_hounsfield, must_not_be_other_part, must_be_axial,
    must_be_thin,
)  # fmt: skip
"""The rules that more slices of the same kind cannot satisfy."""


def preference(series: SeriesHeader, settings: SelectionSettings) -> tuple[Quality, str]:
    """Return a sort key, the preferred series first; the UID comes last, so that the choice is stable."""
    return quality(series, settings, series.slices), series.series_instance_uid


def quality(series: SeriesHeader, settings: SelectionSettings, slices: float) -> Quality:
    """Return how good a series would be with so many slices; lower is better.

    A series of another part may hold no lung at all, so this weighs most. One that names no part is no worse for it: in
    a study of the chest alone, a thin soft series without a description is better than a sharp one named LUNG.
    """
    of_chest = is_named_chest(series)
    image_type = series.most_common("image_type")
    thickness = series.most_common("thickness_mm")
    off = abs(thickness - settings.preferred_thickness_mm) if isinstance(thickness, float) else math.inf
    return (
        of_chest is False,
        has_places_with_two(series),
        isinstance(image_type, tuple) and (image_type[:1] == ("DERIVED",) or not _MULTI_ENERGY.isdisjoint(image_type)),
        is_sharp(str(series.most_common("kernel"))),
        off,
        not of_chest,
        -slices,
    )


def nothing_fits(found: Sequence[SeriesHeader], reasons: dict[str, str], settings: SelectionSettings) -> RejectedInput:
    """Return why a study has no series to measure; only a chest CT gets a report that says so (NotAnalysable)."""
    slices = [s for s in found if s.ct_images and not must_not_be_localizer(s, settings)]
    if not slices:
        return NotForHilum("no-ct", "expected CT slices; this study holds none")
    best = max(slices, key=lambda s: s.slices)
    message = f"no series can be measured; the largest: {reasons[best.series_instance_uid]}"
    is_named = any(speaks_of_chest(image.words) for s in slices for image in s.ct_images)
    if is_named and not must_not_be_other_part(best, settings):
        return NotAnalysable("no-fitting-series", message)
    return NotForHilum("not-a-chest", f"{message}; and nothing says that it shows the chest")


def describe(series: SeriesHeader) -> str:
    """Return what decides between series, and the unread files, for the text of a reason."""
    thickness = series.most_common("thickness_mm")
    kernel = series.most_common("kernel") or "unnamed"
    width = f"{thickness:g}" if isinstance(thickness, float) else "unknown"
    described = f"{series.slices} slices of {width} mm, kernel {kernel}"
    named = {True: "", False: "named as another part", None: "not named as the chest"}[is_named_chest(series)]
    twice = "several at one place" if has_places_with_two(series) else ""
    return ", ".join(part for part in (described, twice, named, what_is_unread(series)) if part)


def normal(orientation: tuple[float, ...]) -> Vector:
    """Return the unit normal of a slice: row cosines x column cosines (PS3.3 C.7.6.2.1.1); 0 if they are parallel."""
    ax, ay, az, bx, by, bz = orientation
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = math.hypot(x, y, z)
    if length < LEAST_SINE:
        return 0.0, 0.0, 0.0
    return x / length, y / length, z / length


def extent_mm(series: SeriesHeader) -> float:
    """Return the distance between the first and last slice along the normal."""
    offsets = offsets_mm(series)
    return max(offsets) - min(offsets) if offsets else 0.0


def has_places_with_two(series: SeriesHeader) -> bool:
    """Whether several slices lie at one place, as in a series of several phases: the worker refuses it."""
    offsets = sorted(offsets_mm(series, but="LOCALIZER"))
    gaps = [above - below for below, above in pairwise(offsets)]
    share, least_mm = SAME_PLACE
    return bool(gaps) and min(gaps) <= max(least_mm, share * statistics.median(gaps))


def offsets_mm(series: SeriesHeader, but: str = "") -> list[float]:
    """Return where the slices lie along the normal, unsorted; without those whose Image Type has the term ``but``."""
    orientation = series.most_common("orientation")
    if not isinstance(orientation, tuple) or len(orientation) != 6:
        return []
    nx, ny, nz = normal(orientation)
    images = (image for image in series.ct_images if but not in image.image_type)
    return [x * nx + y * ny + z * nz for image in images for x, y, z in image.positions]
