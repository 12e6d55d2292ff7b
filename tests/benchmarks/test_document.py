from tests.benchmarks.document import table


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
