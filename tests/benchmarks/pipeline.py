"""Seconds from a study's folder to its objects, by part of the pipeline, and peak memory."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tests.benchmarks.comparison import HILUM, Comparison
from tests.benchmarks.machine import run_alone, scratch
from tests.benchmarks.receivers import SLICES
from worker.phantom import write_phantom

LONG = 709
"""Slices of a large study; Shivdeo et al. 2021, section 5.4."""

TITLE = "Analysing"
TEXT = f"""\
This is the work of `hilum analyze` on {SLICES} slices of 512x512 (the phantom), from files to SEG, SR and key image,
each time in a new process, with the network that Hilum ships and with HU thresholds. The parts are those of the run
with the network, named as the pipeline's progress names them; "start" is the interpreter, its imports and the network's
weights. Then comes a study as large as the largest of Shivdeo et al. 2021, who needed 1145 s in 2D and 229 s in 3D on
their CPU for the segmentation alone. Everything runs on CPU: the network runs on a GPU if torch finds one, but none was
available for these measurements.

The memory is that of a machine with torch, which takes 180 MB to look for a GPU; a CPU worker has no torch. Without
torch, on {LONG} slices, the scan takes 372 MB, the lungs and the infection up to 186 MB each, and interpreter,
libraries and network 260 MB. These changes reduced the peak there, in MB:

| change | before | after |
| --- | ---: | ---: |
| the lungs are cleaned in the box of each side, and voxels counted slice by slice: the whole analysis | 1917 | 1570 |
| the same: while the lungs are found | 1913 | 1395 |
| the network's output is freed before the lungs are cleaned: while the lungs are found | 1391 | 1312 |

Hardly any of this memory is free and only kept by the allocator: returning that to the system between the stages saved
10 to 70 MB."""

THRESHOLDS = "Hilum by thresholds"
METHODS: dict[str, Literal["network", "thresholds"]] = {HILUM: "network", THRESHOLDS: "thresholds"}


def measure(rounds: int) -> Iterator[Comparison]:
    """Measure the parts of the pipeline, their sum, and peak memory."""
    parts: dict[str, list[float]] = defaultdict(list)
    total: dict[str, list[float]] = {name: [] for name in METHODS}
    peak: dict[str, list[float]] = {name: [] for name in METHODS}
    with scratch() as folder:
        study = Path(folder, "study")
        write_phantom(study, slices=SLICES)
        for turn in range(rounds):
            for name, method in METHODS.items():
                seconds, peak_mb = analyze_once(study, Path(folder, f"out{turn}-{method}"), method)
                total[name].append(sum(seconds.values()))
                peak[name].append(peak_mb)
                if name == HILUM:
                    for part, value in seconds.items():
                        parts[part].append(value)
    yield Comparison("the whole", "s", total)
    yield Comparison("its parts", "s", parts)
    yield Comparison("peak memory (resident)", "MB", peak)
    with scratch() as folder:
        study = Path(folder, "study")
        write_phantom(study, slices=LONG)
        found = [analyze_once(study, Path(folder, f"out{turn}"), METHODS[HILUM]) for turn in range(rounds)]
    yield Comparison(f"{LONG} slices", "s", {HILUM: [sum(seconds.values()) for seconds, _ in found]})
    yield Comparison(f"{LONG} slices: peak memory (resident)", "MB", {HILUM: [peak_mb for _, peak_mb in found]})


def analyze_once(
    study: Path, out: Path, method: Literal["network", "thresholds"] = "network"
) -> tuple[dict[str, float], float]:
    """Analyse a study in a new process; return the seconds of each part and the peak memory in MB."""
    started = time.time()
    command = [sys.executable, "-m", "tests.benchmarks.pipeline", str(study), str(out), str(started), method]
    run = run_alone(command)
    return json.loads(run.output), run.peak_mb


def main(study: Path, out: Path, started: float, method: str) -> None:
    """Analyse a study and print the seconds of each part as JSON."""
    from dicom_node.settings import ReportSettings, WorkerSettings
    from worker.answer import answer_study
    from worker.method import choose_method, use_threads

    use_threads(0)
    chosen = choose_method(WorkerSettings.model_validate({"method": method}))
    moments = [("start", started)]
    answer = answer_study(
        sorted(study.iterdir()),
        None,
        out,
        ReportSettings(),
        lambda stage, _: moments.append((stage, time.time())),
        method=chosen,
    )
    moments.append(("", time.time()))
    if not answer.objects or answer.ending.message:
        raise SystemExit(answer.ending.message)
    parts: dict[str, float] = defaultdict(float)
    for (stage, begin), (_, end) in pairwise(moments):
        parts[stage] += end - begin
    print(json.dumps(parts))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
