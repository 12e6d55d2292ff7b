import io

import pytest
from rich.console import Console

from training.reporter import counted


def test_what_goes_on_for_long_is_counted_in_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 6.0, 12.0, 12.0, 18.0])
    monkeypatch.setattr("training.reporter.time.monotonic", lambda: next(clock))
    said = io.StringIO()
    assert list(counted(["a", "b", "c"], Console(file=said), "scans tested")) == ["a", "b", "c"]
    assert said.getvalue() == "scans tested: 2 of 3\n"


def test_items_whose_number_nobody_knows_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.reporter.SECONDS_BETWEEN_LINES", 0)
    said = io.StringIO()
    assert list(counted(iter("ab"), Console(file=said), "images prepared")) == ["a", "b"]
    assert said.getvalue() == "images prepared: 1\nimages prepared: 2\n"
