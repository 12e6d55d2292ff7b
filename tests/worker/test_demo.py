"""What `hilum demo` shows of what lies in its PACS."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.pacs import SmallPACS
from worker.demo import results_in, show_proportions

STUDY = "1.2.3"


def test_only_the_results_of_this_run_are_shown(tmp_path: Path) -> None:
    """Not the images that were sent, nor what an earlier demo or version left in the same folder."""
    (tmp_path / STUDY / "1").mkdir(parents=True)
    for name in ("image", "earlier", "report"):
        (tmp_path / STUDY / "1" / f"{name}.dcm").touch()
    answer = {"study_instance_uid": STUDY, "sent": [{"sop_instance_uid": "report"}]}
    assert [path.stem for path in results_in(SmallPACS(tmp_path), answer)] == ["report"]


def test_a_percentage_is_told_as_the_report_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_proportions({"both": 0.03, "left": 0.0, "right": 5.449}, None)
    assert capsys.readouterr().out.split("in the report")[1].split() == "< 0.1 % 0.0 % 5.4 %".split()
