"""A PACS that is down, slow, full, refuses some, hangs up or forgets to answer gets everything in the end."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Hospital
from tests.faults.pacs import Mood
from tests.faults.senders import Scanner
from tests.services import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.node]


@pytest.mark.parametrize("mood", [mood for mood in Mood if mood is not Mood.WELL])
def test_whatever_the_pacs_does_it_gets_one_set_of_results(hospital: Hospital, mood: Mood) -> None:
    studies = [Scanner(1).study(list(Mood).index(mood) * 10 + number) for number in range(3)]
    hospital.pacs.set_mood(mood)
    for study in studies:
        hospital.send(study)
    time.sleep(4.0)  # the results are on their way
    hospital.pacs.set_mood(Mood.WELL)
    time.sleep(2.0)  # the last refusal is written down
    hospital.site.command("resend")
    for study in studies:
        hospital.settled(study)
    hospital.assert_answered_once(*studies)


def test_whatever_a_dicomweb_service_and_delivery_do_it_gets_one_set_of_results(hospital: Hospital) -> None:
    studies = [Scanner(10).study(number) for number in range(len(Mood))]
    for mood, study in zip(Mood, studies, strict=True):
        hospital.service.set_mood(mood)
        hospital.send(study)
        time.sleep(2.5)  # the results are on their way
        hospital.site.kill("deliver")
    hospital.service.set_mood(Mood.WELL)
    wait_until(hospital.site.ready, "delivery", 60)
    time.sleep(2.0)  # the last refusal is written down
    hospital.site.command("resend")
    for study in studies:
        hospital.settled(study)
    hospital.assert_answered_once(*studies)
