"""The settings and folders of `hilum demo`, and which objects in its PACS it shows."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

from dicom_node.errors import HilumError, SettingsError
from dicom_node.pacs import SmallPACS
from tests.worker.reports.results import CUT_OFF, make_result
from worker.demo import own_folder, own_settings, proportions, results_in, run_demo, show_proportions

STUDY = "1.2.3"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder; changes of the environment by a demo end with the test."""
    monkeypatch.setattr(os, "environ", {**os.environ})
    return tmp_path


def test_the_demo_works_on_its_own_record_and_pacs_whatever_the_environment_says(out: Path) -> None:
    (out / "secrets").mkdir()
    (out / "secrets" / "hilum_broker__url").write_text("redis://production")
    os.environ |= {
        "HILUM_SECRETS_DIR": str(out / "secrets"),
        "HILUM_DATABASE__URL": "postgresql://hilum@production/hilum",
        "hilum_destinations": '[{"name": "PACS", "ae_title": "PACS", "host": "production", "port": 104}]',
    }
    settings = own_settings(own_folder(out), port=11113, pacs_port=11114)
    assert settings.database_url == f"sqlite:///{out}/hilum/storage/record.sqlite3"
    assert settings.broker.url == ""
    assert [(d.host, d.port) for d in settings.destinations] == [("127.0.0.1", 11114)]


def test_the_processes_of_a_demo_get_its_settings_and_no_others(out: Path) -> None:
    os.environ["HILUM_NODE__PORT"] = "104"
    own_settings(own_folder(out), port=11113, pacs_port=11114)
    given = {name: value for name, value in os.environ.items() if name.startswith("HILUM_")}
    assert given == {"HILUM_CONFIG": str(out / "hilum" / "hilum.toml")}


def test_a_demo_leaves_what_it_did_not_make(out: Path) -> None:
    (out / "hilum.toml").write_text("[node]\nport = 104\n")
    (out / "storage-of-hospital").mkdir()
    own_settings(own_folder(out), port=11113, pacs_port=11114)
    assert (out / "hilum.toml").read_text() == "[node]\nport = 104\n"
    assert (out / "storage-of-hospital").is_dir()


def test_a_folder_of_that_name_which_no_demo_made_is_an_error(out: Path) -> None:
    (out / "hilum" / "storage").mkdir(parents=True)
    (out / "hilum" / "hilum.toml").write_text("[node]\nport = 104\n")
    with pytest.raises(SettingsError, match=f"{out}/hilum .*--out"):
        own_folder(out)
    assert (out / "hilum" / "storage").is_dir()


def test_what_a_demo_writes_is_closed_to_other_users(out: Path) -> None:
    """Its folder gets a copy of the study, which may be a real one."""
    (out / "no-study").mkdir()
    umask = os.umask(0o022)
    try:
        with pytest.raises(HilumError):
            run_demo(Namespace(folder=out / "no-study", out=out / "demo"))
        (out / "file").touch()
    finally:
        os.umask(umask)
    assert (out / "demo").stat().st_mode & 0o777 == 0o700
    assert (out / "file").stat().st_mode & 0o777 == 0o600


def test_a_demo_begins_with_an_empty_record(out: Path) -> None:
    """Else the phantom would not be new to Hilum."""
    own_settings(own_folder(out), port=11113, pacs_port=11114)
    (out / "hilum" / "storage").mkdir()
    own_folder(out)
    assert not (out / "hilum" / "storage").exists()


def test_only_the_results_of_this_run_are_shown(tmp_path: Path) -> None:
    """Neither the images that were sent, nor the objects that an earlier demo or version left in the same folder."""
    (tmp_path / STUDY / "1").mkdir(parents=True)
    for name in ("image", "earlier", "report"):
        (tmp_path / STUDY / "1" / f"{name}.dcm").touch()
    answer = {"study_instance_uid": STUDY, "sent": [{"sop_instance_uid": "report"}]}
    assert [path.stem for path in results_in(SmallPACS(tmp_path), answer)] == ["report"]


def test_a_percentage_is_told_as_the_report_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_proportions({"both": 0.03, "left": 0.0, "right": 5.449}, None)
    assert capsys.readouterr().out.split("in the report")[1].split() == "< 0.1 % 0.0 % 5.4 %".split()


def test_the_proportions_shown_are_those_of_the_report(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    expected = {m.site: pytest.approx(m.infected_percent, abs=0.01) for m in result.findings.measurements}
    assert proportions(result.read("report")) == expected
    assert proportions(make_result(tmp_path / "withheld", flags=(CUT_OFF,)).read("report")) == {}
