from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from training.evaluate.area_plots import HEIGHT, WIDTH, write_area_plots
from training.evaluate.compare import Judged
from training.evaluate.sketch import sketches_of
from training.prepare.prepared import Prepared

SVG = "{http://www.w3.org/2000/svg}"


def judged(name: str, areas: list[int], pixels_ml: list[float] | None = None) -> Judged:
    """Return a scan with these numbers of true pixels in its slices, in which nothing was found."""
    true = np.zeros((len(areas), 1, 4), np.uint8)
    for plane, area in zip(true, areas, strict=True):
        plane[0, :area] = 1
    samples = tuple(
        Prepared(name, "source", None, name, position, np.zeros((1, 1, 4), np.float16), plane[None], voxel_ml)
        for position, (plane, voxel_ml) in enumerate(zip(true, pixels_ml or [1.0] * len(areas), strict=True))
    )
    return Judged(name, samples, np.zeros_like(true), true, 0.0)


def test_each_scan_has_the_curves_of_the_truth_and_of_what_was_found(tmp_path: Path) -> None:
    write_area_plots(sketches_of([judged("a & b", [0, 1, 2, 4, 4, 3, 2, 1, 0, 0])], 1), tmp_path / "plots.svg")
    root = ElementTree.parse(tmp_path / "plots.svg").getroot()  # noqa: S314  # written by the line above
    true, found = ([p.split(",") for p in line.attrib["points"].split()] for line in root.iter(f"{SVG}polyline"))
    assert [float(y) for _, y in true][:4] == [HEIGHT, 0.75 * HEIGHT, 0.5 * HEIGHT, 0]
    assert {float(y) for _, y in found} == {HEIGHT}
    assert float(true[-1][0]) == WIDTH
    assert [text.text for text in root.iter(f"{SVG}text")] == ["likeness 0.575: a & b"]


def test_a_slice_that_was_cropped_tightly_counts_by_the_size_of_its_pixels(tmp_path: Path) -> None:
    scan = judged("a", [4] * 10, pixels_ml=[0.25] + [1.0] * 9)
    write_area_plots(sketches_of([scan], 1), tmp_path / "plots.svg")
    root = ElementTree.parse(tmp_path / "plots.svg").getroot()  # noqa: S314  # written by the line above
    true = next(root.iter(f"{SVG}polyline")).attrib["points"].split()
    assert [float(point.split(",")[1]) for point in true[:2]] == [0.75 * HEIGHT, 0]
    assert next(root.iter(f"{SVG}text")).text == "likeness 0.075: a"


def test_single_slices_have_no_plot(tmp_path: Path) -> None:
    write_area_plots(sketches_of([judged("slice", [1]), judged("scan", [1] * 10)], 1), tmp_path / "plots.svg")
    root = ElementTree.parse(tmp_path / "plots.svg").getroot()  # noqa: S314  # written by the line above
    assert len(list(root.iter(f"{SVG}g"))) == 1


def test_a_set_of_slices_has_no_picture(tmp_path: Path) -> None:
    write_area_plots(sketches_of([judged("slice", [1])], 1), tmp_path / "plots.svg")
    assert not (tmp_path / "plots.svg").exists()
