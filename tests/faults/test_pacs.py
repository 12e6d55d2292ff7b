"""A PACS that is down, slow or full, rejects some objects, hangs up or does not answer gets everything in the end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dicom_node.record.schema import deliveries
from dicom_node.study import DeliveryState
from tests.dicom_node.recording import rows
from tests.faults.conftest import Hospital
from tests.faults.pacs import BrokenPACS, Mood
from tests.faults.senders import Scanner, Study
from tests.services import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]


def send_in_mood(hospital: Hospital, pacs: BrokenPACS, mood: Mood, studies: Sequence[Study]) -> None:
    """Send studies to Hilum, and wait until the destination's mood has affected their results."""
    uids, delivery = {study.study_instance_uid for study in studies}, hospital.site.services["deliver"]
    begin = delivery.log.stat().st_size
    pacs.set_mood(mood)
    for study in studies:
        hospital.send(study)

    def is_felt() -> bool:
        if mood is Mood.WELL:
            return uids <= {held.study_instance_uid for held in pacs.came}
        if mood is Mood.DOWN:
            failed = delivery.events("delivery_failed", begin)
            return any(event["destination"] == pacs.destination["name"] for event in failed)
        return uids <= pacs.spoiled

    wait_until(is_felt, f"results that feel that it is {mood}", 120)


def settle_resending(hospital: Hospital, studies: Sequence[Study]) -> None:
    """Wait until all is answered and sent; resend what was rejected, as an administrator would."""

    def is_settled() -> bool:
        if any(row["state"] == DeliveryState.REJECTED for row in rows(hospital.record, deliveries)):
            hospital.site.command("resend")
        return all(hospital.is_settled(study) for study in studies)

    wait_until(is_settled, "the answers", 120)


@pytest.mark.parametrize("mood", [mood for mood in Mood if mood is not Mood.WELL])
def test_whatever_the_pacs_does_it_gets_one_set_of_results(hospital: Hospital, mood: Mood) -> None:
    studies = [Scanner(1).study(list(Mood).index(mood) * 10 + number) for number in range(3)]
    send_in_mood(hospital, hospital.pacs, mood, studies)
    hospital.pacs.set_mood(Mood.WELL)
    settle_resending(hospital, studies)
    hospital.assert_answered_once(*studies)


def test_whatever_a_dicomweb_service_and_delivery_do_it_gets_one_set_of_results(hospital: Hospital) -> None:
    studies = [Scanner(10).study(number) for number in range(len(Mood))]
    for mood, study in zip(Mood, studies, strict=True):
        send_in_mood(hospital, hospital.service, mood, [study])
        hospital.site.kill("deliver")
    hospital.service.set_mood(Mood.WELL)
    settle_resending(hospital, studies)
    hospital.assert_answered_once(*studies)
