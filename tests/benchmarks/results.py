"""Time and memory from findings to written objects, compared with highdicom's default way and dcmqi."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.comparison import HILUM, Comparison
from tests.benchmarks.machine import REPOSITORY, run_alone, scratch

if TYPE_CHECKING:
    from worker.findings import Findings
    from worker.volume import Volume

SEGMENTATIONS = "Hilum, segmentations"
HIGHDICOM, DCMQI = "highdicom, 4-D array", "dcmqi itkimage2segimage"
PEAK = "peak memory (resident)"
PEERS = (HIGHDICOM, DCMQI)
COUNTS = (300, 700)
PHANTOM_SLICES = 100
TITLE = "Writing results"
TEXT = """\
From masks in memory to files, for slices of 512x512 of the phantom, each time in a new process. The tables
"segmentations alone" compare like with like: Hilum's three objects, for each lung and for the infection, with one
segmentation of the same three masks by each peer. highdicom gets a 4-D array, as its documentation shows; dcmqi gets
three NRRD files, which it reads itself. The tables "all objects" compare all that Hilum writes, report, key image and
`results.json` included, with the same segmentation by each peer. Times are those of the work alone, without imports and
reading pixels (for dcmqi, of its whole run). Memory is the peak of the whole process during the work; for Hilum and
highdicom it includes volume and masks, and 130 MB for the imports of the other benchmarks.

These changes reduced processor time (in seconds, for all objects of 700 slices) and memory (in MB beyond volume and
masks), on a busy machine:

| change | s before | s after | MB before | MB after |
| --- | ---: | ---: | ---: | ---: |
| a segmentation's frames are encoded directly, and the source's headers not read again | 4.3 | 1.7 | 501 | 314 |
| what the picture shows is found without a copy of the masks | 1.7 | 1.4 | 314 | 137 |

For 700 slices, these remain: 0.2 s for the SHA-256 of the voxels, from which the UIDs are derived; 0.25 s and 67 MB
for highdicom's table of the standard (22 MB of JSON), once per process; 0.15 s for the report; and 0.13 s for the
picture."""


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
            for title, contender in (("segmentations alone", SEGMENTATIONS), ("all objects", HILUM)):
                for what, unit in (("CPU time", "s"), ("time", "s"), (PEAK, "MB"), ("size", "MB")):
                    compared = {HILUM: found[what][contender]} | {peer: found[what][peer] for peer in PEERS}
                    yield Comparison(f"{count} slices, {title}: {what}", unit, compared)


def prepare(study: Path, count: int) -> None:
    """Write a chest of thin slices, made by repeating the slices of a phantom, and its masks for every contender."""
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
    """Return the masks of left lung, right lung and infection."""
    return [labels == 1, labels == 2, infection]


def run(contender: str, study: Path) -> dict[str, float]:
    """Run a contender in its own process; return its times, peak memory and the size of its objects."""
    with scratch() as name:
        out = Path(name)
        found = run_alone(CONTENDERS[contender](study, out))
        whole = {"CPU time": found.cpu_seconds, "time": found.seconds, PEAK: found.peak_mb}
        figures = whole if contender == DCMQI else json.loads(found.output.splitlines()[-1])
        return {**figures, "size": sum(path.stat().st_size for path in out.iterdir()) / 1e6}


def command(what: str, study: Path, argument: str | Path) -> list[str]:
    """Return the command that runs a part of this benchmark in its own process."""
    return [sys.executable, "-m", "tests.benchmarks.results", what, str(study), str(argument)]


def ourselves(contender: str) -> Callable[[Path, Path], list[str]]:
    """Return a function that builds the command of a contender written in Python."""
    return lambda study, out: command(contender, study, out)


def itkimage2segimage(study: Path, out: Path) -> list[str]:
    """Return the command that writes one segmentation with dcmqi."""
    return [
        "itkimage2segimage",
        *("--inputDICOMDirectory", str(study / "ct")),
        *("--inputImageList", ",".join(str(study / f"{number}.nrrd") for number in (1, 2, 3))),
        *("--inputMetadata", str(study / "metadata.json")),
        *("--outputDICOM", str(out / "seg.dcm"), "--skip"),
    ]


CONTENDERS = {name: ourselves(name) for name in (HILUM, SEGMENTATIONS, HIGHDICOM)} | {DCMQI: itkimage2segimage}


def write_segmentations(volume: Volume, findings: Findings, out: Path) -> None:
    """Write the segmentations as `write_reports` does, and nothing else."""
    from worker.reports.context import ResultContext, result_key
    from worker.reports.labelmap import label_maps
    from worker.reports.seg import build_segmentation
    from worker.reports.source import source_of

    source = source_of(volume)
    key = result_key(source, findings.algorithm, volume=volume)
    shared = ResultContext(source, findings.algorithm, key, datetime.now(UTC))
    for label_map in label_maps(findings):
        segmentation = build_segmentation(volume, label_map, shared)
        segmentation.save_as(out / f"{label_map.kind.name}.dcm", enforce_file_format=True)


def write_with_highdicom(volume: Volume, findings: Findings, out: Path) -> None:
    """Write one segmentation as highdicom's documentation does, from source data sets and a 4-D array."""
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
    """Write results; print the CPU time, the time and the peak memory of this as JSON."""
    from tests.worker.reports.results import findings_of
    from worker.reports import write_reports
    from worker.volume import read_volume

    write = {HILUM: write_reports, SEGMENTATIONS: write_segmentations, HIGHDICOM: write_with_highdicom}[contender]
    volume = read_volume(sorted((study / "ct").iterdir()))
    stored: Any = np.load(study / "masks.npz")
    findings = findings_of(volume, stored["labels"], stored["infection"])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak memory, VmHWM (proc(5))
    cpu, wall = time.process_time(), time.perf_counter()
    write(volume, findings, out)
    taken = {"CPU time": time.process_time() - cpu, "time": time.perf_counter() - wall, PEAK: peak_of_this_process()}
    print(json.dumps(taken))  # noqa: T201 - the parent reads it


def peak_of_this_process() -> float:
    """Return the peak resident memory of this process, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
