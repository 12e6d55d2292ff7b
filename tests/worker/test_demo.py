"""What `hilum demo` shows of what lies in its PACS."""

from __future__ import annotations

from pathlib import Path

from dicom_node.pacs import SmallPACS
from worker.demo import results_in

STUDY = "1.2.3"


def test_only_the_results_of_this_run_are_shown(tmp_path: Path) -> None:
    """Not the images that were sent, nor what an earlier demo or version left in the same folder."""
    (tmp_path / STUDY / "1").mkdir(parents=True)
    for name in ("image", "earlier", "report"):
        (tmp_path / STUDY / "1" / f"{name}.dcm").touch()
    answer = {"study_instance_uid": STUDY, "sent": [{"sop_instance_uid": "report"}]}
    assert [path.stem for path in results_in(SmallPACS(tmp_path), answer)] == ["report"]
