from pathlib import Path
from xml.etree import ElementTree

from training.evaluate.metrics import Roc
from training.evaluate.roc_curve import SIDE, write_roc_curve

SVG = "{http://www.w3.org/2000/svg}"


def test_the_curve_rises_with_each_positive_and_has_a_dot_at_the_best_threshold(tmp_path: Path) -> None:
    write_roc_curve(Roc.of([0.9, 0.8, 0.7, 0.1], [True, False, True, False]), tmp_path / "roc.svg")
    root = ElementTree.parse(tmp_path / "roc.svg").getroot()  # noqa: S314  # written by the line above
    (curve,) = root.iter(f"{SVG}polyline")
    points = [tuple(float(value) / SIDE for value in point.split(",")) for point in curve.attrib["points"].split()]
    assert points == [(0, 1), (0, 0.5), (0.5, 0.5), (0.5, 0), (1, 0)]
    (dot,) = root.iter(f"{SVG}circle")
    assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == (0, 0.5 * SIDE)
    assert next(root.iter(f"{SVG}text")).text == "AUC 0.750; accuracy 0.750 from 0.90 (dot)"


def test_candidates_of_one_kind_have_no_curve(tmp_path: Path) -> None:
    write_roc_curve(Roc.of([0.9, 0.8], [True, True]), tmp_path / "roc.svg")
    assert not (tmp_path / "roc.svg").exists()
