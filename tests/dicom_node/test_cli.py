"""The command line: help, messages for people, JSON for scripts."""

from __future__ import annotations

import ast
import errno
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pynetdicom.events import Event
from sqlalchemy import Engine, inspect, update

from dicom_node import cli
from dicom_node.cli import Command
from dicom_node.deliver.outbox import Outbox
from dicom_node.deliver.outgoing import Answer, Outcome, Outgoing, read_outgoing
from dicom_node.dispatch.jobs import Jobs
from dicom_node.errors import PassingFailure
from dicom_node.files import Files
from dicom_node.receive.intake import Intake
from dicom_node.record.database import make_engine
from dicom_node.record.schema import deliveries, instances, jobs, series, studies
from dicom_node.settings import DeliverySettings, JobSettings, Settings
from dicom_node.study import Ending, JobState, Priority
from tests.dicom_node.notifying import end_study, send_notifications, settings_with_webhook
from tests.dicom_node.recording import STUDY, claimed, instance, make_job, receive, results_of, rows
from tests.dicom_node.webhooks import answering, receiving, webhook
from tests.factories import ct_series
from tests.services import RedisServer, free_port

COMMANDS = [command.name for command in cli.commands()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with its own settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hilum.toml").write_text('[storage]\nfolder = "data"\n')
    return tmp_path


@pytest.fixture
def record(folder: Path, sqlite_record: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The record that the settings name."""
    monkeypatch.setenv("HILUM_DATABASE__URL", str(sqlite_record.url))
    return sqlite_record


def hilum(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_help_names_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for command in cli.commands():
        assert re.search(rf"^    {command.name}\b", said, re.MULTILINE), command.name
        assert command.help.split()[0] in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"hilum {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_what_every_command_names_to_run_is_there(name: str) -> None:
    (command,) = (command for command in cli.commands() if command.name == name)
    module, _, function = command.run.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))  # importing torch would take seconds
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_help_loads_neither_numpy_nor_the_database() -> None:
    code = (
        "import sys\nfrom dicom_node.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'torch', 'sqlalchemy', 'pynetdicom') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_an_unknown_setting_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hilum.toml").write_text("[node]\nprot = 104\n")
    status, out, err = hilum(capsys, "studies")
    assert (status, out) == (1, "")
    assert err == "hilum: unknown setting node.prot; the nearest known one is node.port\n"


def test_a_settings_file_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.toml").write_text("[nod]\n")
    assert "nod" in hilum(capsys, "--config", "other.toml", "studies")[2]
    os.environ.pop("HILUM_CONFIG")


def test_a_reader_who_has_seen_enough_is_no_error(folder: Path) -> None:
    """As in `hilum settings | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dicom_node", "settings"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_whose_output_is_closed_does_its_work(record: Engine, closed: str) -> None:
    command = f"{sys.executable} -m dicom_node studies {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_whose_part_is_not_installed_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command("dream", "dream", "tests.dicom_node.needs_missing_package:run", extra="worker")
    assert cli.run(command, Any) == 1  # type: ignore[arg-type]  # its value is not used
    assert "pip install -c constraints.txt '.[worker]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("analyze", ".", "--out", "out"), ("demo",), ("models",), ("worker",)])
def test_a_node_without_the_worker_says_how_to_install_it(folder: Path, command: tuple[str, ...]) -> None:
    code = f"import sys\nsys.modules['numpy'] = None\nfrom dicom_node.cli import main\nsys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    advice = "run in a checkout of Hilum: pip install -c constraints.txt '.[worker]'"
    said = f"hilum: `hilum {command[0]}` needs numpy; {advice}\n"
    assert (done.returncode, done.stderr) == (1, said)


# studies and retry


def finished(record: Engine) -> None:
    queue = Jobs(record, JobSettings())
    job = claimed(queue, make_job(record))
    queue.finish(job, Ending(JobState.DONE, infected_percent=12.345), results_of(), ["PACS"])
    outbox = Outbox(record, DeliverySettings())
    token, due = outbox.claim("PACS")
    outbox.sent(token, due[0], 0x0000)
    outbox.rejected(token, due[1], 0xC000, "the PACS answered 0xc000 and will not take it")


def came_long_ago(record: Engine) -> None:
    """Record that nobody sends images of a study any more, and that it went to the worker."""
    with record.begin() as connection:
        connection.execute(instances.update().values(stored_at=0.0))
        connection.execute(studies.update().values(state="selected"))


def test_no_studies_yet(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert hilum(capsys, "studies") == (0, "no studies\n", "")
    assert json.loads(hilum(capsys, "studies", "--json")[1]) == []


@pytest.mark.parametrize(
    "command", [("studies",), ("retry", STUDY), ("resend",), ("redirect", "A", "B"), ("remove", STUDY)]
)
def test_where_there_is_no_record_none_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    status, out, err = hilum(capsys, *command)
    assert (status, out) == (1, "")
    assert f"there is no record at {folder}/data/record.sqlite3" in err
    assert "--config" in err
    assert "HILUM_CONFIG" in err
    assert not (folder / "data").exists()


def test_an_empty_file_is_no_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "record.sqlite3").touch()
    assert "there is no record" in hilum(capsys, "studies")[2]


@pytest.mark.node
def test_in_a_database_without_a_record_none_is_made(
    folder: Path, postgres_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILUM_DATABASE__URL", postgres_url.replace("hilum@", "hilum:s3cret@"))
    _, _, err = hilum(capsys, "studies")
    assert f"there is no record at 127.0.0.1/{postgres_url.rpartition('/')[2]}" in err
    assert "s3cret" not in err
    engine = make_engine(postgres_url, must_exist=False)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_studies_are_listed_with_their_state_and_result(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    with record.begin() as connection:
        connection.execute(update(studies).values(first_instance_at=0.0))
    _, said, _ = hilum(capsys, "studies")
    for part in ("1970-01-01T00:00:00+00:00", STUDY, "done", "12.3 %", "1/2 sent", "1 refused", "2 images"):
        assert part in said


def test_a_list_says_that_a_study_is_urgent_or_conflicting(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(record)
    assert "conflicting" not in hilum(capsys, "studies")[1]
    with record.begin() as connection:
        connection.execute(update(studies).values(conflicting=True))
        connection.execute(update(jobs).values(priority=Priority.STAT))
    _, said, _ = hilum(capsys, "studies")
    assert "STAT" in said
    assert "conflicting" in said


def test_a_study_is_shown_with_its_jobs_and_deliveries(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    _, said, _ = hilum(capsys, "studies", STUDY)
    assert "revision 1  done, attempts: 1" in said
    assert "seg        to PACS: sent, 0x0000" in said
    assert "sr         to PACS: rejected, 0xc000" in said


def test_a_study_is_shown_with_each_series_and_why_it_was_chosen_or_not(
    record: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    make_job(record)
    reasons = {"1.2.3.1": "selected: 40 slices", "1.2.3.2": "expected slices, got localizers"}
    with record.begin() as connection:
        for uid, reason in reasons.items():
            row = {"study_instance_uid": STUDY, "series_instance_uid": uid, "selected": uid == "1.2.3.1"}
            connection.execute(series.insert().values(row | {"reason": reason}))
    _, said, _ = hilum(capsys, "studies", STUDY)
    assert all(re.search(rf"{uid}\s+{reason}", said) for uid, reason in reasons.items())


def test_what_a_pacs_promised_to_keep_is_shown(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    with record.begin() as connection:
        connection.execute(deliveries.update().where(deliveries.c.state == "sent").values(committed_at=0.0))
    assert "sent and committed, 0x0000" in hilum(capsys, "studies", STUDY)[1]
    shown = json.loads(hilum(capsys, "studies", STUDY, "--json")[1])
    assert [one["committed_at"] for one in shown["sent"]] == ["1970-01-01T00:00:00+00:00", None]


def test_json_holds_the_same_for_scripts(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    (listed,) = json.loads(hilum(capsys, "studies", "--json")[1])
    shown = json.loads(hilum(capsys, "studies", STUDY, "--json")[1])
    assert (listed["state"], listed["infected_percent"]) == ("done", 12.345)
    assert listed["deliveries"] == {"pending": 0, "sent": 1, "rejected": 1}
    assert [one["state"] for one in shown["sent"]] == ["sent", "rejected"]
    assert "lease_token" not in json.dumps(shown)


def test_the_newest_studies_come_first_and_no_more_than_asked(
    record: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        make_job(record, study=f"1.2.{number}")
    listed = json.loads(hilum(capsys, "studies", "--limit", "2", "--json")[1])
    assert [row["study_instance_uid"] for row in listed] == ["1.2.3", "1.2.2"]


def test_studies_are_found_by_accession_number(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for study, number in (("1.2.1", "A 17"), ("1.2.2", "A 18"), ("1.2.3", "")):
        (path,) = ct_series(folder / study, np.zeros((1, 8, 8), np.int16), AccessionNumber=number)
        receive(Intake(record), replace(instance(study=study), path=path))
    receive(Intake(record), instance(study="1.2.4"))  # its file does not exist
    for typed, found in (("A 17", ["1.2.1"]), ("a 17", []), ("A 1", []), ("", [])):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        listed = json.loads(hilum(capsys, "studies", "--accession", "--json")[1])
        assert [row["study_instance_uid"] for row in listed] == found


@pytest.mark.parametrize("command", ["studies", "retry"])
def test_an_unknown_study_is_said_to_be_unknown(
    record: Engine, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    status, out, err = hilum(capsys, command, "1.2.99")
    assert (status, out) == (1, "")
    assert "no such study" in err


def told(record: Engine, folder: Path, status: int) -> Settings:
    """Record a study of which the webhook was notified, and answered with a status."""
    with receiving(answering(status)) as receiver:
        settings = settings_with_webhook(folder, receiver.port)
        end_study(record, settings)
        send_notifications(record, settings)
    return settings


@pytest.mark.parametrize(
    ("status", "listed", "shown"),
    [
        (204, "", "sent, HTTP 204"),
        (503, "waiting for the webhook", "pending, HTTP 503  the receiver answered 503"),
        (404, "the webhook refused it", "rejected, HTTP 404  the receiver answered 404"),
    ],
)
def test_studies_show_what_the_webhook_has_not_taken(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str], status: int, listed: str, shown: str
) -> None:
    told(record, folder, status)
    said = hilum(capsys, "studies")[1]
    assert ("webhook" in said) == bool(listed)
    assert listed in said
    assert shown in hilum(capsys, "studies", STUDY)[1]
    (row,) = json.loads(hilum(capsys, "studies", STUDY, "--json")[1])["told"]
    assert row["status"] == status


@pytest.mark.parametrize("command", [("retry", STUDY), ("resend", STUDY), ("resend",)])
def test_what_the_webhook_refused_is_told_again_when_asked(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    told(record, folder, 401)
    assert "1 notifications" in hilum(capsys, *command)[1]
    assert "waiting for the webhook" in hilum(capsys, "studies")[1]


def test_retry_makes_refused_deliveries_due_again(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    assert "to be sent again: 1 deliveries" in hilum(capsys, "retry", STUDY)[1]
    (row,) = json.loads(hilum(capsys, "studies", "--json")[1])
    assert row["deliveries"] == {"pending": 1, "sent": 1, "rejected": 0}


def test_resend_makes_every_refused_delivery_due_again(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    assert hilum(capsys, "resend")[1] == "to be sent again: 1 refused deliveries, 0 notifications\n"
    assert hilum(capsys, "resend")[1] == "to be sent again: 0 refused deliveries, 0 notifications\n"


def test_a_study_is_removed_only_once_it_is_delivered(record: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    finished(record)
    came_long_ago(record)
    status, said, _ = hilum(capsys, "remove", STUDY)
    assert (status, said) == (1, "nothing removed: not every PACS has accepted every result\n")
    with record.begin() as connection:
        connection.execute(deliveries.update().values(state="sent"))
    assert hilum(capsys, "remove", STUDY)[0] == 0
    (row,) = json.loads(hilum(capsys, "studies", "--json")[1])
    assert (row["state"], row["instances"]) == ("done", 0)


def test_files_that_a_removal_leaves_are_told(
    record: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    finished(record)
    came_long_ago(record)
    with record.begin() as connection:
        connection.execute(deliveries.update().values(state="sent"))
    monkeypatch.setattr(Files, "remove_study", refuse)
    status, out, _ = hilum(capsys, "remove", STUDY)
    said = "removed from the record, but files are left (Permission denied); the node tries again every hour\n"
    assert (status, out) == (1, said)


def test_what_is_logged_stands_beside_the_answer_and_not_in_it(record: Engine) -> None:
    finished(record)
    came_long_ago(record)
    with record.begin() as connection:
        connection.execute(deliveries.update().values(state="sent"))
    command = [sys.executable, "-m", "dicom_node", "remove", STUDY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "removed; the record still says what happened to the study\n"
    assert '"study_removed"' in done.stderr


def test_what_waits_for_a_pacs_that_is_gone_is_redirected(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(record)
    (folder / "hilum.toml").write_text(
        f'[[destinations]]\nname = "NEW"\nae_title = "NEW"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    (folder / "hilum-data" / "instances").mkdir(parents=True)
    assert "1 results wait for 'PACS'" in str(checked(capsys)["record"]["message"])
    assert hilum(capsys, "redirect", "PACS", "ARCHIVE")[0] == 1
    assert hilum(capsys, "redirect", "PACS", "NEW")[1] == "1 deliveries will go to NEW\n"
    assert checked(capsys)["record"]["passed"]


def test_what_waits_for_a_pacs_that_is_still_in_the_settings_is_not_redirected(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(record)
    (folder / "hilum.toml").write_text(
        '[[destinations]]\nname = "PACS"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
        '[[destinations]]\nname = "OTHER"\nae_title = "OTHER"\nhost = "127.0.0.1"\nport = 104\n'
    )
    for to in ("OTHER", "PACS"):
        status, _, err = hilum(capsys, "redirect", "PACS", to)
        assert status == 1
        assert "PACS is one of the [[destinations]]" in err
    assert len(rows(record, deliveries)) == 2


def test_redirecting_from_a_pacs_that_nothing_names_is_a_mistake_that_is_named(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(record)
    (folder / "hilum.toml").write_text(
        '[[destinations]]\nname = "NEW"\nae_title = "NEW"\nhost = "127.0.0.1"\nport = 104\n'
    )
    status, _, err = hilum(capsys, "redirect", "PASC", "NEW")
    assert status == 1
    assert "expected one of PACS, got PASC" in err


def test_resend_to_a_destination_nobody_knows_is_a_mistake_that_is_named(
    record: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = hilum(capsys, "resend", "--destination", "ARCHIVE")
    assert status == 1
    assert "got ARCHIVE" in err


# Commands to talk to peers: echo and send


def test_echo_of_nobody_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    status, _, err = hilum(capsys, "echo", f"PACS@127.0.0.1:{port}")
    assert status == 1
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port}" in err


def test_a_peer_may_have_a_long_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = hilum(capsys, "echo", f"PACS@{'long.' * 20}invalid:104")
    assert status == 1
    assert "is not known here" in err


@pytest.mark.parametrize(
    "peer",
    [
        *("nobody", "PACS@host", "PACS@host:99999", "PACS@host:0"),
        *("SEVENTEEN_LETTERS@host:104", "BACK\\SLASH@host:104", "M\u00dcNSTER@host:104"),
    ],
)
def test_a_peer_that_is_no_address_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], peer: str
) -> None:
    status, _, err = hilum(capsys, "echo", peer)
    assert status == 1
    assert "AE_TITLE@HOST:PORT" in err


def test_sending_an_empty_folder_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("not DICOM")
    status, _, err = hilum(capsys, "send", "PACS@127.0.0.1:104", str(folder))
    assert status == 1
    assert "expected DICOM files" in err


def test_sending_a_folder_that_is_not_there_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = hilum(capsys, "send", "PACS@127.0.0.1:104", "nowhere")
    assert status == 1
    assert "nowhere" in err


@pytest.mark.node
def test_sending_tells_what_was_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dicom_node.pacs import SmallPACS

    paths = ct_series(folder / "study", np.zeros((3, 8, 8), np.int16))
    (folder / "study" / "notes.txt").write_text("not DICOM")
    with SmallPACS(folder / "pacs") as pacs:
        status, out, _ = hilum(capsys, "send", f"PACS@127.0.0.1:{pacs.port}", str(folder / "study"))
        assert hilum(capsys, "echo", f"PACS@127.0.0.1:{pacs.port}")[0] == 0
    assert (status, out) == (0, "3 x 0x0000 taken\n1 x not sent: no DICOM file, or a damaged one\n")
    assert len(paths) == len(list((folder / "pacs").rglob("*.dcm")))


def test_the_progress_of_sending_is_gone_from_a_terminal_before_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(*arguments: Any) -> None:
        arguments[-1](Answer(Outcome.TAKEN, 0x0000))
        raise PassingFailure("association-lost", "the association ended before the PACS answered")

    ct_series(folder / "study", np.zeros((3, 8, 8), np.int16))
    monkeypatch.setattr("dicom_node.peers.send_files", hang_up)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    status, _, error = hilum(capsys, "send", "PACS@127.0.0.1:104", str(folder / "study"))
    assert status == 1
    assert error.startswith("\r\033[K1 of 3\r\033[Khilum: the association ended")


def test_a_file_that_may_not_be_read_is_named_and_nothing_is_sent(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ct_series(folder / "study", np.zeros((3, 8, 8), np.int16))

    def read(path: Path) -> Outgoing:  # root may read everything
        if path == paths[1]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read_outgoing(path)

    monkeypatch.setattr("dicom_node.peers.read_outgoing", read)
    status, out, err = hilum(capsys, "send", f"PACS@127.0.0.1:{free_port()}", str(folder / "study"))
    assert (status, out) == (1, "")
    assert err == f"hilum: {paths[1]} cannot be read: Permission denied\n"


@pytest.mark.node
def test_what_was_taken_is_told_where_the_pacs_ends_the_association(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.pacs import SmallPACS

    def store(pacs: SmallPACS, event: Event) -> int:
        if event.request.AffectedSOPInstanceUID == last:
            event.assoc.abort()
        return 0x0000

    *_, path = ct_series(folder / "study", np.zeros((3, 8, 8), np.int16))
    last = pydicom.dcmread(path).SOPInstanceUID
    monkeypatch.setattr(SmallPACS, "_on_store", store)
    monkeypatch.setenv("HILUM_DELIVERY__NETWORK_TIMEOUT_SECONDS", "2")
    with SmallPACS(folder / "pacs") as pacs:
        status, out, err = hilum(capsys, "send", f"PACS@127.0.0.1:{pacs.port}", str(folder / "study"))
    assert (status, out) == (1, "2 x 0x0000 taken\n")
    assert err.startswith(f"hilum: {path}: the association ended")


@pytest.mark.node
def test_an_object_that_cannot_be_sent_as_it_is_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dicom_node.pacs import SmallPACS

    *_, path = ct_series(folder / "study", np.zeros((3, 8, 8), np.int16))
    ds = pydicom.dcmread(path)
    del ds.SOPInstanceUID
    ds.save_as(path)
    with SmallPACS(folder / "pacs") as pacs:
        status, out, err = hilum(capsys, "send", f"PACS@127.0.0.1:{pacs.port}", str(folder / "study"))
    assert (status, out) == (1, "2 x 0x0000 taken\n")
    assert err.startswith(f"hilum: {path}: ")


# check


def checked(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    found = json.loads(hilum(capsys, "check", "--json")[1])
    return {check["name"]: check for check in found}


@pytest.mark.node
def test_check_tries_everything(
    record: Engine, redis_server: RedisServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dicom_node.pacs import SmallPACS

    with SmallPACS(folder / "pacs") as pacs:
        (folder / "hilum.toml").write_text(
            f'[node]\nport = {free_port()}\n[broker]\nurl = "{redis_server.url}"\n'
            f'[[destinations]]\nname = "A"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
            f'[[destinations]]\nname = "B"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n'
        )
        found = checked(capsys)
    passed = {name: check["passed"] for name, check in found.items() if name != "storage"}
    tried = ("settings", "access", "port", "permissions", "record", "broker", "PACS A")
    assert passed == dict.fromkeys(tried, True) | {"PACS B": False}


def test_check_says_what_is_missing_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = hilum(capsys, "check")
    assert status == 1
    assert re.search(r"^FAIL\s+PACS\s.*destinations", out, re.MULTILINE)


def test_check_of_wrong_settings_tries_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hilum.toml").write_text("[node]\nprot = 1\n")
    assert list(checked(capsys)) == ["settings"]


def test_check_says_which_ae_title_cannot_be_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "hilum.toml").write_text('[node]\nae_title = "HILUM\\u200b"\n')
    (settings,) = checked(capsys).values()
    assert not settings["passed"]
    assert settings["message"].startswith("node.ae_title: ")


def test_check_of_a_storage_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data").write_text("in the way")
    found = checked(capsys)
    assert not found["storage"]["passed"]
    assert not found["record"]["passed"]


def test_check_of_a_broker_that_is_away_keeps_its_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILUM_BROKER__URL", f"redis://:s3cret@127.0.0.1:{free_port()}/0")
    broker = checked(capsys)["broker"]
    assert not broker["passed"]
    assert "s3cret" not in broker["message"]


def test_check_reaches_the_webhook_and_tells_it_nothing(
    record: Engine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiving() as receiver:
        settings = webhook(folder, receiver.port)
        (folder / "hilum.toml").write_text(
            f'[notification]\nurl = "{settings.url}"\nsecret = "{settings.secret}"\n[storage]\nfolder = "data"\n'
        )
        found = checked(capsys)["webhook"]
        assert (found["passed"], found["message"]) == (True, "127.0.0.1 can be reached; nothing was sent to it")
        assert receiver.taken == []
    assert not checked(capsys)["webhook"]["passed"]
    (folder / "webhook.secret").unlink()
    assert "No such file" in checked(capsys)["webhook"]["message"]


# node and deliver, as far as they fail early


def failing(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    return done.stderr


def test_a_node_without_a_broker_says_how_to_get_one(folder: Path) -> None:
    assert "hilum up" in failing("node")


@pytest.mark.node
def test_a_node_whose_port_is_taken_says_so_in_one_line(folder: Path, redis_server: RedisServer) -> None:
    (folder / "hilum.toml").write_text(f'[node]\nport = {redis_server.port}\n[broker]\nurl = "{redis_server.url}"\n')
    said = failing("node")
    assert f"port {redis_server.port}" in said
    assert "Traceback" not in said


def test_a_node_whose_storage_is_not_mounted_does_not_start(
    record: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_job(record)
    monkeypatch.setenv("HILUM_BROKER__URL", "redis://127.0.0.1:1/0")
    expected = f"the record holds studies, and {folder / 'data'} none of their images: mount {folder / 'data'}"
    assert expected in failing("node")
    assert not (folder / "data").exists()
    assert expected in checked(capsys)["record"]["message"]


@pytest.mark.parametrize("limit", ["-1", "0", "many"])
def test_a_list_of_no_studies_is_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["studies", f"--limit={limit}"])
    assert f"expected a number of at least 1, got {limit}" in capsys.readouterr().err
