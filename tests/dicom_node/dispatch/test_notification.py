"""What the webhook is notified of, and of what not."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from dicom_node.dispatch.notification import notification_of
from dicom_node.settings import NotificationSettings
from dicom_node.study import Ending, JobKey, JobState, Result
from tests.dicom_node.webhooks import webhook

JOB = JobKey("job", "1.2.3", 2)
REPORT = Result("2.25.9", "1.2", "1.2", "report", Path("report.dcm"))
SEG = Result("2.25.8", "1.2", "1.2", "seg", Path("seg.dcm"))
DONE = Ending(JobState.DONE, "found", 31.416, ("thick-slices",))
REFUSED = Ending(JobState.REFUSED, "not-analysable", code="gap", message="a slice is missing")
FAILED = Ending(JobState.FAILED, code="defect", message="a defect of Hilum")


def body_of(settings: NotificationSettings, ending: Ending) -> dict[str, Any]:
    told = notification_of(settings, JOB, ending, [SEG, REPORT])
    assert told is not None
    body: dict[str, Any] = json.loads(told.body)
    assert body["id"] == told.notification_id
    return body


def test_a_study_that_is_done_is_told_with_its_figures(tmp_path: Path) -> None:
    body = body_of(webhook(tmp_path, 1, threshold_percent=30), DONE)
    assert (body["id"], body["type"]) == ("job.done", "study.done")
    assert body["data"] == {
        "study_instance_uid": "1.2.3",
        "revision": 2,
        "outcome": "found",
        "infected_percent": 31.42,
        "above_threshold": True,
        "flags": ["thick-slices"],
        "reason": None,
        "report_sop_instance_uid": "2.25.9",
        "hilum_version": version("hilum"),
    }


def test_a_refused_study_is_told_with_the_reason(tmp_path: Path) -> None:
    body = body_of(webhook(tmp_path, 1, threshold_percent=0), REFUSED)
    assert body["type"] == "study.refused"
    assert body["data"]["reason"] == {"code": "gap", "message": "a slice is missing"}
    assert (body["data"]["infected_percent"], body["data"]["above_threshold"]) == (None, None)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (("done",), [DONE]),
        (("refused",), [REFUSED]),
        (("failed",), [FAILED]),
        (("above-threshold",), []),
        (("refused", "above-threshold"), [REFUSED]),
    ],
)
def test_only_what_was_asked_for_is_told(tmp_path: Path, events: tuple[str, ...], told: list[Ending]) -> None:
    settings = webhook(tmp_path, 1, events=events, threshold_percent=50)
    assert [ending for ending in (DONE, REFUSED, FAILED) if notification_of(settings, JOB, ending)] == told


@pytest.mark.parametrize(("percent", "above"), [(25.004, False), (25.006, True), (None, False)])
def test_above_is_more_than_the_threshold_in_the_decimals_of_the_report(
    tmp_path: Path, percent: float | None, above: bool
) -> None:
    settings = webhook(tmp_path, 1, events=("above-threshold",), threshold_percent=25)
    assert (notification_of(settings, JOB, Ending(JobState.DONE, "found", percent)) is not None) == above


@pytest.mark.parametrize(
    ("ending", "told"), [(DONE, False), (Ending(JobState.DONE, "withheld"), True), (REFUSED, False)]
)
def test_a_study_without_a_percentage_is_told_where_that_is_asked_for(
    tmp_path: Path, ending: Ending, told: bool
) -> None:
    settings = webhook(tmp_path, 1, events=("withheld",))
    assert (notification_of(settings, JOB, ending) is not None) == told


def test_without_a_threshold_nothing_is_said_to_be_above_or_below(tmp_path: Path) -> None:
    assert body_of(webhook(tmp_path, 1), DONE)["data"]["above_threshold"] is None


def test_a_study_that_is_set_aside_is_told_to_nobody(tmp_path: Path) -> None:
    assert notification_of(webhook(tmp_path, 1), JOB, Ending(JobState.SET_ASIDE)) is None


def test_without_a_url_nobody_is_told() -> None:
    assert notification_of(NotificationSettings(), JOB, DONE) is None
