"""CPU seconds and memory from findings to written objects, beside highdicom's default way and dcmqi."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.comparison import HILUM, Comparison
from tests.benchmarks.machine import REPOSITORY, run_alone, scratch

if TYPE_CHECKING:
    from worker.findings import Findings
    from worker.volume import Volume

HIGHDICOM, DCMQI = "highdicom, 4-D array", "dcmqi itkimage2segimage"
COUNTS = (300, 700)
PHANTOM_SLICES = 100
TITLE = "Writing results"
TEXT = """\
From masks in memory to files, for slices of 512x512 of the phantom, each time in a new process. Hilum writes all its
objects: segmentations of both lungs and of infection, report, key image, and `results.json`. The peers write one
segmentation of the same three masks: highdicom from a 4-D array, as its documentation shows it, and dcmqi from three
NRRD files, which it reads itself. CPU seconds are those of the work alone, without imports and the reading of pixels
(dcmqi: its whole run); memory is the peak of the whole process, with the volume that Hilum and highdicom hold."""


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure every contender on a small and on a large chest."""
    with scratch() as name:
        for count in COUNTS:
            study = Path(name, str(count))
            subprocess.run(command("prepare", study, str(count)), check=True, cwd=REPOSITORY)
            found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            names = list(CONTENDERS)
            for turn in range(rounds):
                for contender in names[turn % len(names) :] + names[: turn % len(names)]:
                    for what, value in run(contender, study).items():
                        found[what][contender].append(value)
            for what, unit in (("CPU time", "s"), ("time", "s"), ("peak memory (resident)", "MB"), ("size", "MB")):
                yield Comparison(f"{count} slices: {what}", unit, found[what])


def prepare(study: Path, count: int) -> None:
    """Write a chest of thin slices, each slice of a phantom several times, and its masks for every contender."""
    import SimpleITK as sitk

    from tests.factories import ct_series
    from worker.phantom import write_phantom
    from worker.volume import read_volume

    truth = write_phantom(study / "phantom", slices=PHANTOM_SLICES)
    labels, infection, hu = (
        np.repeat(array, count // PHANTOM_SLICES, axis=0)
        for array in (truth.lungs.labels, truth.infection.array, read_volume(truth.paths).hu)
    )
    ct_series(study / "ct", hu, spacing_mm=(1.0, 0.7, 0.7), origin_mm=(0, 0, 0))
    np.savez(study / "masks.npz", labels=labels, infection=infection)
    for number, mask in enumerate(masks_of(labels, infection), 1):
        image = sitk.GetImageFromArray(mask.view(np.uint8))
        image.SetSpacing((0.7, 0.7, 1.0))
        sitk.WriteImage(image, study / f"{number}.nrrd")
    lung, lesion = (
        {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}
        for value, meaning in (("39607008", "Lung"), ("52988006", "Lesion"))
    )
    category = {"CodeValue": "91723000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    segments = [
        [
            {
                "labelID": 1,
                "SegmentDescription": label,
                "SegmentAlgorithmType": "AUTOMATIC",
                "SegmentAlgorithmName": "truth",
                "SegmentedPropertyCategoryCodeSequence": category,
                "SegmentedPropertyTypeCodeSequence": kind,
            }
        ]
        for label, kind in (("Left lung", lung), ("Right lung", lung), ("Infection", lesion))
    ]
    metadata = {"ContentCreatorName": "", "SeriesDescription": "truth", "segmentAttributes": segments}
    (study / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")


def masks_of(labels: np.ndarray, infection: np.ndarray) -> list[np.ndarray]:
    """Return left lung, right lung and infection."""
    return [labels == 1, labels == 2, infection]


def run(contender: str, study: Path) -> dict[str, float]:
    """Run a contender in a process of its own."""
    with scratch() as name:
        out = Path(name)
        found = run_alone(CONTENDERS[contender](study, out))
        whole = {"CPU time": found.cpu_seconds, "time": found.seconds}
        seconds = whole if contender == DCMQI else json.loads(found.output.splitlines()[-1])
        size_mb = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        return {**seconds, "peak memory (resident)": found.peak_mb, "size": size_mb}


def command(what: str, study: Path, argument: str | Path) -> list[str]:
    """Return the command that does a part of this benchmark in a process of its own."""
    return [sys.executable, "-m", "tests.benchmarks.results", what, str(study), str(argument)]


def ourselves(contender: str) -> Callable[[Path, Path], list[str]]:
    """Return the command that runs a contender in Python."""
    return lambda study, out: command(contender, study, out)


def itkimage2segimage(study: Path, out: Path) -> list[str]:
    """Return dcmqi's command."""
    return [
        "itkimage2segimage",
        *("--inputDICOMDirectory", str(study / "ct")),
        *("--inputImageList", ",".join(str(study / f"{number}.nrrd") for number in (1, 2, 3))),
        *("--inputMetadata", str(study / "metadata.json")),
        *("--outputDICOM", str(out / "seg.dcm"), "--skip"),
    ]


CONTENDERS = {HILUM: ourselves(HILUM), HIGHDICOM: ourselves(HIGHDICOM), DCMQI: itkimage2segimage}


def write_with_hilum(volume: Volume, findings: Findings, out: Path) -> None:
    """Write all objects."""
    from worker.reports import write_reports

    write_reports(volume, findings, out)


def write_with_highdicom(volume: Volume, findings: Findings, out: Path) -> None:
    """Write one segmentation as highdicom's documentation does: source data sets and a 4-D array."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    sources = [dcmread(slice_.path, stop_before_pixels=True) for slice_ in volume.slices]
    masks = np.stack(masks_of(findings.lungs.labels, findings.infection.array), axis=-1)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(("Left lung", "Right lung", "Infection"), 1)
    ]
    segmentation = hd.seg.Segmentation(
        sources, masks, "BINARY", descriptions, generate_uid(), 1, generate_uid(), 1, "Bench", "Bench", "1", "1"
    )
    segmentation.save_as(out / "seg.dcm")


def main(contender: str, study: Path, out: Path) -> None:
    """Write results and print the seconds it took as JSON."""
    import highdicom  # noqa: F401 - imports do not count

    from tests.worker.reports.results import findings_of
    from worker.volume import read_volume

    volume = read_volume(sorted((study / "ct").iterdir()))
    stored: Any = np.load(study / "masks.npz")
    findings = findings_of(volume, stored["labels"], stored["infection"])
    write = write_with_hilum if contender == HILUM else write_with_highdicom
    cpu, wall = time.process_time(), time.perf_counter()
    write(volume, findings, out)
    print(json.dumps({"CPU time": time.process_time() - cpu, "time": time.perf_counter() - wall}))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
