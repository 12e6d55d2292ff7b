"""Queries to a PACS that does not answer, answers in part or without end, or hangs up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelGet as Get,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelMove as Move,
)
from structlog.testing import capture_logs

from dicom_node.dispatch.retrieve import (
    FIND,
    FoundSeries,
    NotSent,
    associated,
    find,
    find_last_chest_ct,
    find_reports,
    get_series,
    is_before,
    move_series,
)
from dicom_node.errors import HungUp, PassingFailure
from dicom_node.settings import Destination, PriorSettings, Settings
from tests.dicom_node.pacs import FindAnswers, queried_pacs, serving

pytestmark = pytest.mark.node

SERIES = [FoundSeries("1.2.4", "1.2.4.1")]


def study(**attributes: str | list[str]) -> Dataset:
    ds = Dataset()
    for keyword, value in ({"PatientID": "4711", "StudyDate": "20240101"} | attributes).items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    "ask",
    [
        lambda peer: find_reports(peer, Settings(), "4711", ""),
        lambda peer: find_last_chest_ct(peer, Settings(), "4711", "", "20240301"),
        lambda peer: move_series(peer, Settings(), SERIES),
        lambda peer: get_series(peer, Settings(), SERIES, lambda *_: None),
    ],
)
def test_a_pacs_that_does_not_offer_the_service_is_a_passing_failure(ask: Callable[[Destination], object]) -> None:
    with queried_pacs() as peer, pytest.raises(PassingFailure, match="PACS does not let HILUM ask by C-"):
        ask(peer)


Sent = Callable[[evt.Event], Iterator[object]]


@contextmanager
def sending(answer: Sent) -> Iterator[Destination]:
    """Run a PACS that answers C-GET with ``answer``."""
    ae = AE("PACS")
    ae.add_supported_context(Get)
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    with serving(ae, [(evt.EVT_C_GET, answer)]) as port:
        yield Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port)


def image(series: str, sop_class_uid: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class_uid, f"{series}.1", series
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def holding_a_screen(event: evt.Event) -> Iterator[object]:
    """Send a CT image of series 1.2.4.1; of any other a screen, for which Hilum has no presentation context."""
    series = event.identifier.SeriesInstanceUID
    yield 1
    yield 0xFF00, image(series, CTImageStorage if series == "1.2.4.1" else SecondaryCaptureImageStorage)


def test_a_series_that_the_pacs_cannot_send_is_left_out() -> None:
    got = dict[str, bytes]()
    with sending(holding_a_screen) as peer:
        get_series(peer, Settings(), [FoundSeries("1.2.4", "1.2.4.2"), *SERIES], got.__setitem__)
    assert list(got) == ["1.2.4.1.1"]


def test_if_the_pacs_cannot_send_any_series_its_status_is_the_reason() -> None:
    screen = [FoundSeries("1.2.4", "1.2.4.2")]
    with sending(holding_a_screen) as peer, pytest.raises(NotSent, match="PACS answered 0xa702 to C-GET"):
        get_series(peer, Settings(), screen, lambda *_: None)


def test_a_series_that_comes_in_part_is_no_prior() -> None:
    def answer(event: evt.Event) -> Iterator[object]:
        yield 2
        yield 0xFF00, image(event.identifier.SeriesInstanceUID, CTImageStorage)
        yield 0xFF00, image(event.identifier.SeriesInstanceUID, SecondaryCaptureImageStorage)

    with sending(answer) as peer, pytest.raises(NotSent, match="has not sent all"):
        get_series(peer, Settings(), SERIES, lambda *_: None)


def test_a_pacs_that_moves_a_series_in_part_has_not_failed() -> None:
    statuses = iter([0x0000, 0xA700])  # the node's, whose disk is full from the second object on
    taker = AE("HILUM")
    taker.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    ae = AE("PACS")
    ae.add_supported_context(Move)

    def answer(_: evt.Event) -> Iterator[object]:
        contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
        yield "127.0.0.1", node_port, {"contexts": contexts}
        yield 2
        for series in ("1.2.4.1", "1.2.4.2"):
            yield 0xFF00, image(series, CTImageStorage)

    with (
        serving(taker, [(evt.EVT_C_STORE, lambda _: next(statuses))]) as node_port,
        serving(ae, [(evt.EVT_C_MOVE, answer)]) as port,
        pytest.raises(NotSent, match="PACS answered 0xb000 to C-MOVE, and has not sent all"),
    ):
        move_series(Destination(name="PACS", ae_title="PACS", host="127.0.0.1", port=port), Settings(), SERIES)


def test_a_pacs_that_hangs_up_during_c_get_has_hung_up() -> None:
    def answer(event: evt.Event) -> Iterator[object]:
        yield 1
        event.assoc.abort()

    with sending(answer) as peer, pytest.raises(HungUp, match=r"priors\.longest_seconds"):
        get_series(peer, Settings(), SERIES, lambda *_: None)


def test_an_association_that_has_ended_is_a_passing_failure() -> None:
    with queried_pacs(lambda _: iter(())) as peer, associated(peer, Settings(), FIND) as association:
        association.abort()
        with pytest.raises(PassingFailure, match="answered nothing to C-FIND"):
            list(find(association, "STUDY", PatientID="4711"))


def test_a_pacs_that_never_comes_to_an_end_is_hung_up_on() -> None:
    hung_up = threading.Event()

    def answer(_event: evt.Event) -> FindAnswers:
        for _ in range(1_000):
            if hung_up.wait(0.01):
                return
            yield 0xFF00, study(StudyInstanceUID="1.2.4", ModalitiesInStudy="MR")

    # longest_seconds is far less than the PACS takes, and timeout_seconds far more than its pauses between answers.
    limited = Settings(priors=PriorSettings(longest_seconds=0.1, timeout_seconds=1))
    with queried_pacs(answer) as peer:
        with pytest.raises(PassingFailure, match="answered nothing to C-FIND"):
            find_reports(peer, limited, "4711", "")
        hung_up.set()


def test_a_pacs_that_is_silent_for_too_long_is_given_up() -> None:
    given_up = threading.Event()

    def answer(_event: evt.Event) -> FindAnswers:
        given_up.wait(10)
        yield 0x0000, None

    limited = Settings(priors=PriorSettings(timeout_seconds=0.2))
    with queried_pacs(answer) as peer:
        with pytest.raises(PassingFailure, match="answered nothing to C-FIND"):
            find_reports(peer, limited, "4711", "")
        given_up.set()


def test_an_answer_that_names_no_study_is_left_out() -> None:
    def answer(_: evt.Event) -> FindAnswers:
        yield 0xFF00, study()

    with queried_pacs(answer) as peer:
        assert find_reports(peer, Settings(), "4711", "") == []
        assert find_last_chest_ct(peer, Settings(), "4711", "", "20240301") == []


def test_studies_left_out_because_of_the_issuer_of_the_patient_id_are_logged() -> None:
    def answer(event: evt.Event) -> FindAnswers:
        if event.identifier.QueryRetrieveLevel == "STUDY":
            yield 0xFF00, study(StudyInstanceUID="1.2.4", IssuerOfPatientID="DEFAULT")
            yield 0xFF00, study(StudyInstanceUID="1.2.5", PatientID="4712")
        else:
            yield 0xFF00, study(SeriesInstanceUID="1.2.4.9")

    with queried_pacs(answer) as peer, capture_logs() as logged:
        assert find_reports(peer, Settings(), "4711", "") == []
        assert len(find_reports(peer, Settings(), "4711", "DEFAULT")) == 1
    told = [line for line in logged if line["event"] == "priors_of_another_issuer"]
    assert [line["studies"] for line in told] == [1]
    assert "4711" not in str(told)


@pytest.mark.parametrize(("modalities", "queries"), [("MR", 1), (["CT", "PT"], 1), (["CT", "SR"], 2), ("", 2)])
def test_only_studies_that_may_have_a_report_are_looked_into(modalities: str | list[str], queries: int) -> None:
    levels = list[str]()

    def answer(event: evt.Event) -> FindAnswers:
        levels.append(str(event.identifier.QueryRetrieveLevel))
        if levels == ["STUDY"]:
            yield 0xFF00, study(StudyInstanceUID="1.2.4", ModalitiesInStudy=modalities)

    with queried_pacs(answer) as peer:
        assert find_reports(peer, Settings(), "4711", "") == []
    assert levels == ["STUDY", "SERIES"][:queries]


@pytest.mark.parametrize(("description", "found"), [("Hilum report", ["1.2.4.9"]), ("", ["1.2.4.9"]), ("Dose", [])])
def test_a_report_of_another_maker_is_left_out_though_the_pacs_matches_no_description(
    description: str, found: list[str]
) -> None:
    def answer(event: evt.Event) -> FindAnswers:
        if event.identifier.QueryRetrieveLevel == "STUDY":
            yield 0xFF00, study(StudyInstanceUID="1.2.4")
        else:
            yield 0xFF00, study(SeriesInstanceUID="1.2.4.9", SeriesDescription=description)

    with queried_pacs(answer) as peer:
        assert [s.series_instance_uid for s in find_reports(peer, Settings(), "4711", "")] == found


@pytest.mark.parametrize(
    ("same_day", "before", "found"),
    [
        ("", "20240301101112", "1.7"),
        ("080000", "20240301", "1.7"),
        ("", "20240301", "1.7"),
        ("111213", "20240301101112", "1.7"),
        ("080000", "20240301101112", "1.0"),
    ],
)
def test_a_study_of_the_same_day_is_a_prior_only_where_both_tell_that_it_came_first(
    same_day: str, before: str, found: str
) -> None:
    def answer(event: evt.Event) -> FindAnswers:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, study(SeriesInstanceUID="1.2", SeriesDescription="CHEST")
        else:
            yield 0xFF00, study(StudyInstanceUID="1.7", StudyDate="20240223", StudyTime="101112")
            yield 0xFF00, study(StudyInstanceUID="1.0", StudyDate="20240301", StudyTime=same_day)

    with queried_pacs(answer) as peer:
        series = find_last_chest_ct(peer, Settings(), "4711", "", before)
    assert [s.study_instance_uid for s in series] == [found]


@pytest.mark.parametrize("own_time", ["101530.123000", "101530", "101530.123", "1015", "101529"])
def test_a_study_is_no_prior_of_itself_however_the_pacs_writes_its_time(own_time: str) -> None:
    def answer(event: evt.Event) -> FindAnswers:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, study(SeriesInstanceUID="1.2", SeriesDescription="CHEST")
        else:
            yield 0xFF00, study(StudyInstanceUID="1.7", StudyDate="20240223", StudyTime="101112")
            yield 0xFF00, study(StudyInstanceUID="1.9", StudyDate="20240301", StudyTime=own_time)

    with queried_pacs(answer) as peer:
        series = find_last_chest_ct(peer, Settings(), "4711", "", "20240301101530.123000", own="1.9")
    assert [s.study_instance_uid for s in series] == ["1.7"]


@pytest.mark.parametrize(
    ("taken_at", "is_earlier"),
    [("20240301101529", True), ("20240301101530", False), ("2024030110", False), ("202403011014", True), ("", False)],
)
def test_a_moment_precedes_another_if_the_digits_that_both_have_tell_so(taken_at: str, is_earlier: bool) -> None:
    assert is_before(taken_at, "20240301101530.123000") == is_earlier


def test_only_studies_with_ct_are_looked_into_for_images() -> None:
    levels = list[str]()

    def answer(event: evt.Event) -> FindAnswers:
        levels.append(str(event.identifier.QueryRetrieveLevel))
        yield 0xFF00, study(StudyInstanceUID="1.2.4", ModalitiesInStudy="MR")

    with queried_pacs(answer) as peer:
        assert find_last_chest_ct(peer, Settings(), "4711", "", "20240301") == []
    assert levels == ["STUDY"]
