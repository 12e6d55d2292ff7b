"""How figures are formatted for readers."""

from __future__ import annotations

import pytest

from dicom_node.figures import format_percent
from dicom_node.listing import print_list
from dicom_node.study import DeliveryState, Priority


@pytest.mark.parametrize(("percent", "text"), [(0, "0.0 %"), (0.01, "< 0.1 %"), (5.449, "5.4 %"), (100, "100.0 %")])
def test_a_percentage_that_is_not_zero_never_reads_as_zero(percent: float, text: str) -> None:
    assert format_percent(percent) == text


@pytest.mark.parametrize(("percent", "text"), [(0.03, " < 0.1 % "), (0.0, " 0.0 % "), (5.449, " 5.4 % ")])
def test_the_list_of_studies_tells_a_percentage_as_the_report_does(
    capsys: pytest.CaptureFixture[str], percent: float, text: str
) -> None:
    none = dict.fromkeys(map(str, DeliveryState), 0)
    study = {"study_instance_uid": "1.2.3", "received": "", "state": "done", "instances": 300, "reason": ""}
    told = {"priority": Priority.ROUTINE, "conflicting": False, "deliveries": none, "notifications": none}
    print_list([study | told | {"infected_percent": percent}])
    assert text in capsys.readouterr().out
