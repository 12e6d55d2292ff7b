"""The short form of the storm; ``python -m tests.faults`` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.storm import run_storm

pytestmark = [pytest.mark.fault, pytest.mark.node]

SEED = 18
"""With this seed one of the six kills hits PostgreSQL, and the clock is set between kills."""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_study_has_one_answer_whatever_is_killed(database: str, tmp_path: Path) -> None:
    storm = run_storm(tmp_path / "storm", database, studies=24, kills=6, senders=4, seed=SEED)
    assert storm.verdict is not None
    assert storm.verdict.clean, storm.verdict
    assert storm.kills.total() == 6
    assert storm.jumps
    assert storm.kills["postgresql"] == (database == "postgresql")
