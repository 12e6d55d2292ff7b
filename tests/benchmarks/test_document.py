import json
import shutil

from tests.benchmarks import document
from tests.benchmarks.bench import BENCHMARKS
from tests.benchmarks.document import table


def test_a_benchmark_that_is_measured_again_leaves_the_words_on_the_others_as_they_are(tmp_path, monkeypatch):
    for name in ("FIGURES", "DOCUMENT", "README"):
        copy = tmp_path / name
        copy.write_bytes(getattr(document, name).read_bytes())
        monkeypatch.setattr(document, name, copy)
    plots = tmp_path / "images" / "performance"
    shutil.copytree(document.PLOTS, plots)
    monkeypatch.setattr(document, "PLOTS", plots)
    before = document.DOCUMENT.read_text(encoding="utf-8")
    receive = json.loads(document.FIGURES.read_text(encoding="utf-8"))["receive"]
    document.write_document({"receive": receive}, BENCHMARKS)
    assert document.DOCUMENT.read_text(encoding="utf-8") == before


def test_the_rows_of_what_grows_come_in_its_order():
    """The file of the figures sorts these numbers as text: 1200 before 150."""
    of_a_row = {"values": [1.0], "median": 1.0, "hilum_is_better_by": {}}
    contenders = dict.fromkeys(["1200", "150", "50"], of_a_row)
    rows = table({"title": "time", "unit": "s", "along": "slices", "contenders": contenders}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 50 slices", "| 150 slices", "| 1,200 slices"]


def test_other_rows_stay_in_their_order():
    of_a_row = {"values": [1.0], "median": 1.0, "hilum_is_better_by": {}}
    contenders = dict.fromkeys(["Orthanc", "2", "Hilum"], of_a_row)
    rows = table({"title": "time", "unit": "s", "along": "", "contenders": contenders}).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| Orthanc", "| 2", "| Hilum"]
