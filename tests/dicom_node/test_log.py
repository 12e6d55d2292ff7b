"""Logs: events with allowed fields only, and nothing that libraries log."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom_node.log import FIELDS
from tests.conftest import REPOSITORY

TELLING_NAME = "Wolkenstein^Adalbert"


def log_lines(code: str) -> list[dict[str, Any]]:
    """Run code in a new process after `configure_logging("test")`; return what it logs."""
    start = "from dicom_node.log import configure_logging, get_logger\nlog = get_logger()\nconfigure_logging('test')\n"
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_event_is_a_line_of_json_with_its_process_and_time() -> None:
    (line,) = log_lines("log.info('study_whole', instances=3)")
    assert (line["action"], line["process"], line["level"], line["instances"]) == ("study_whole", "test", "info", 3)
    assert line["timestamp"].endswith("Z")


FULL_DISK = "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"
GONE_READER = "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 2)"
CLOSED = "sys.stderr.close()"


@pytest.mark.parametrize("output", [FULL_DISK, GONE_READER, CLOSED])
@pytest.mark.parametrize("line", ["log.info('study_whole')", "logging.getLogger('celery').error('%d', 'no number')"])
def test_a_line_that_cannot_be_written_is_dropped_and_breaks_nothing(output: str, line: str) -> None:
    start = "import logging, os, sys\nfrom dicom_node.log import configure_logging, get_logger\nlog = get_logger()\n"
    code = f"{start}configure_logging('test')\n{output}\n{line}\nprint('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n"


def test_lines_go_to_the_true_standard_error_though_a_library_replaces_it() -> None:
    (line,) = log_lines("import io, sys\nsys.stderr = io.StringIO()\nlog.info('study_whole')")  # as Celery does
    assert line["action"] == "study_whole"


def test_after_a_full_disk_lines_are_written_again() -> None:
    lines = log_lines(
        f"import os\ntrue = os.dup(2)\n{FULL_DISK}\n"
        "for number in range(1000): log.info('lost', job_id=str(number))\n"
        "os.dup2(true, 2)\nlog.info('study_whole')"
    )
    assert lines[-1]["action"] == "study_whole"


def test_a_field_that_is_not_on_the_list_is_dropped() -> None:
    (line,) = log_lines(f"log.info('study_whole', patient_name='{TELLING_NAME}', job_id='1')")
    assert line["job_id"] == "1"
    assert TELLING_NAME not in json.dumps(line)


def test_an_exception_is_told_by_type_and_place_without_its_message() -> None:
    (line,) = log_lines(
        f"try:\n    raise ValueError('{TELLING_NAME}')\nexcept ValueError:\n    log.exception('job_broke')"
    )
    assert line["exception"].startswith("ValueError at ")
    assert TELLING_NAME not in json.dumps(line)


def test_a_chained_exception_keeps_the_first_message_out_too() -> None:
    (line,) = log_lines(
        "try:\n"
        f"    try:\n        raise KeyError('{TELLING_NAME}')\n"
        "    except KeyError as error:\n        raise ValueError('outer') from error\n"
        "except ValueError:\n    log.exception('job_broke')"
    )
    assert TELLING_NAME not in json.dumps(line)


@pytest.mark.parametrize("library", ["pydicom", "pynetdicom", "pynetdicom.assoc", "highdicom", "sqlalchemy.pool"])
def test_the_libraries_own_logs_are_silent(library: str) -> None:
    assert log_lines(f"import logging, pynetdicom\nlogging.getLogger('{library}').critical('{TELLING_NAME}')") == []


def test_a_warning_of_pydicom_about_a_value_is_silent(tmp_path: Path) -> None:
    code = (
        "import pydicom\n"
        "from pydicom.dataset import Dataset\n"
        "ds = Dataset()\n"
        f"ds.PatientBirthDate = '{TELLING_NAME}'\n"
        f"ds.StudyInstanceUID = '{TELLING_NAME}'\n"
    )
    loud = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert TELLING_NAME in loud.stderr  # else this test could not fail
    assert log_lines(code) == []


@pytest.mark.parametrize("where", ["fail()", "import threading; threading.Thread(target=fail).start()"])
def test_a_crash_says_where_and_quotes_nothing(where: str) -> None:
    code = (
        "from dicom_node.log import configure_logging\n"
        f"def fail(): raise ValueError('{TELLING_NAME}')\n"
        f"configure_logging('test'); {where}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert TELLING_NAME not in done.stderr
    assert "crashed" in done.stderr
    assert "ValueError at " in done.stderr


def test_every_field_that_hilum_logs_is_on_the_list() -> None:
    logged = {
        keyword.arg
        for package in ("dicom_node", "worker")
        for module in (REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
        for keyword in node.keywords
        if keyword.arg  # None for ``**told``
    }
    assert logged - FIELDS == set()
