"""DICOM studies with a radiologist's verdict on each slice instead of masks.

::

    NAME/*.dcm
    NAME.labels.csv     sop_instance_uid, infected (0 or 1), and the lobes

A study whose name begins with "normal" is healthy: its infection mask is known, and empty. A study without
labels has no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.folder import files_in
from dicom_node.headers import read_series
from training.datasets.dicom import read_ct, volume_sample
from training.datasets.sample import INFECTION, BadData, Sample
from training.datasets.tables import read_rows
from worker.volume import Volume

HEALTHY = "normal"


def read(folder: Path) -> Iterator[Sample]:
    """Yield one sample for every study.

    Raises
    ------
    BadData
        When there is no study, a study has no CT series that is a volume, or a slice has no label.
    """
    studies = sorted(path for path in folder.iterdir() if path.is_dir())
    if not studies:
        raise BadData("missing-file", f"{folder}: expected a folder for each study, found none")
    for study in studies:
        series = max(read_series(files_in(study)), key=lambda one: one.slices, default=None)
        if series is None or not series.ct_images:
            raise BadData("missing-file", f"{study}: expected CT images, found none")
        volume, window_hu = read_ct(series, study)
        if study.name.startswith(HEALTHY):
            masks = {INFECTION: np.zeros(volume.hu.shape, np.bool_)}
            infected: NDArray[np.bool_] | None = np.zeros(len(volume.hu), np.bool_)
        else:
            masks, infected = {}, read_verdicts(folder / f"{study.name}.labels.csv", volume)
        yield volume_sample(volume, study.name, "ct-studies", study.name, masks, window_hu, infected)


def read_verdicts(path: Path, volume: Volume) -> NDArray[np.bool_] | None:
    """Return whether each slice is infected, feet to head, or None where there is no file."""
    if not path.exists():
        return None
    verdicts = {}
    for row in read_rows(path, {"sop_instance_uid", "infected"}):
        if row["infected"] not in ("0", "1"):
            raise BadData("unknown-verdict", f"{path}: infected is 0 or 1, got {row['infected']!r}")
        verdicts[row["sop_instance_uid"]] = row["infected"] == "1"
    unlabelled = sum(slice_.sop_instance_uid not in verdicts for slice_ in volume.slices)
    if unlabelled:
        raise BadData("missing-label", f"{path}: {unlabelled} of {len(volume.slices)} slices have no row")
    infected = np.array([verdicts[slice_.sop_instance_uid] for slice_ in volume.slices])
    by_voxel = np.broadcast_to(infected[:, None, None], volume.hu.shape)
    along_slices: NDArray[np.bool_] = volume.geometry.anatomical(by_voxel)[:, 0, 0]
    return along_slices
