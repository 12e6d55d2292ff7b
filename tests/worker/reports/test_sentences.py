from __future__ import annotations

import pytest

from worker.reports.sentences import signed


@pytest.mark.parametrize(("value", "told"), [(-0.04, "0.0"), (0.04, "0.0"), (-0.06, "-0.1"), (1.0, "+1.0")])
def test_a_change_that_rounds_to_nothing_has_no_sign(value: float, told: str) -> None:
    assert signed(value) == told
