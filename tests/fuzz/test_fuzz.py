"""The short form of the fuzzing; the long one is ``python -m tests.fuzz``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.cases import KINDS
from tests.fuzz.harness import fuzz

CASES = 30 * len(KINDS)


@pytest.mark.node
@pytest.mark.fault
def test_hostile_messages_break_nothing(tmp_path: Path) -> None:
    found = fuzz(tmp_path, CASES, seed=1)
    assert found.problems == []
    assert found.stored > CASES / 10
