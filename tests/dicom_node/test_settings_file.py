from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from dicom_node.cli import main
from dicom_node.settings import Settings, load_settings
from dicom_node.settings.file import file_lines
from dicom_node.settings.section import Section


def settings_of_a_site() -> Settings:
    return Settings.model_validate(
        {
            "node": {"host": "10.0.0.5", "allow_unsecured": True},
            "storage": {"folder": Path("/data/hilum"), "keep_days": 30.5},
            "destinations": [
                {"name": 'The "PACS"', "ae_title": "PACS", "host": "pacs", "port": 104},
                {"name": "Archive", "ae_title": "ARCHIVE", "host": "archive", "port": 11112},
                {"name": "Web", "url": "https://pacs.example/dicom-web", "credentials": Path("/etc/hilum/token")},
            ],
        }
    )


def test_what_is_printed_loads_as_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of_a_site()
    file = tmp_path / "hilum.toml"
    file.write_text("\n".join(file_lines(settings)), encoding="utf-8")
    monkeypatch.setenv("HILUM_CONFIG", str(file))
    assert load_settings() == settings


def test_senders_load_as_they_were_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"node": {"senders": [{"ae_title": "CT1", "addresses": ["10.0.0.0/8"]}]}})
    file = tmp_path / "hilum.toml"
    file.write_text("\n".join(file_lines(settings)), encoding="utf-8")
    monkeypatch.setenv("HILUM_CONFIG", str(file))
    assert load_settings() == settings


def sections(model: type[BaseModel] = Section) -> Iterator[type[BaseModel]]:
    for section in model.__subclasses__():
        yield section
        yield from sections(section)


@pytest.mark.parametrize("section", list(sections()))
def test_every_setting_says_what_it_means(section: type[BaseModel]) -> None:
    assert section.__doc__
    assert [name for name, field in section.model_fields.items() if not field.description] == []


def test_a_destination_is_shown_where_there_is_none() -> None:
    lines = list(file_lines(Settings.model_construct()))
    assert "# [[destinations]]" in lines
    assert lines.count("# [[destinations]]") == 2
    assert {f"# {name} =" for name in ("name", "ae_title", "host", "port", "url")} <= set(lines)


def test_few_choices_are_named() -> None:
    assert "# What finds lungs and infection. One of: network, thresholds." in file_lines(Settings.model_construct())


@pytest.mark.parametrize("password", ["s3cret", "an@s3cret", "s3cret@an", "an@s3cret:an", "s3cret?an"])
def test_no_password_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], password: str
) -> None:
    monkeypatch.setenv("HILUM_DATABASE__URL", f"postgresql+psycopg://hilum:{password}@db/hilum")
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert "s3cret" not in printed
    assert "hilum:***@db" in printed


def test_no_query_of_a_url_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HILUM_DATABASE__URL", "postgresql://db/hilum?password=s3cret")
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert "s3cret" not in printed
    assert "postgresql://db/hilum?***" in printed


@pytest.mark.parametrize("path", ["/services/T000/B000/s3cret", "/hilum?sig=s3cret", "?sig=s3cret", "/s3cret@an"])
def test_of_the_webhooks_url_the_host_alone_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.setenv("HILUM_NOTIFICATION__URL", f"https://worklist.example:8443{path}")
    monkeypatch.setenv("HILUM_NOTIFICATION__SECRET", "webhook.secret")
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert "s3cret" not in printed
    assert 'url = "https://worklist.example:8443/***"' in printed


def test_the_defaults_are_printed_whatever_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILUM_NODE__PORT", "104")
    assert main(["settings", "--defaults"]) == 0
    assert "port = 11112" in capsys.readouterr().out


def test_what_is_printed_is_utf_8_whatever_the_locale_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Hilum would refuse a settings file made from its own output."""
    file = tmp_path / "hilum.toml"
    file.write_text('[[destinations]]\nname = "M\u00fcnster"\nae_title = "A"\nhost = "h"\nport = 104\n', "utf-8")
    command = [sys.executable, "-m", "dicom_node", "--config", file, "settings"]
    latin_1 = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, env=latin_1, capture_output=True, timeout=60, check=True)
    file.write_bytes(done.stdout)
    monkeypatch.setenv("HILUM_CONFIG", str(file))
    assert load_settings().destinations[0].name == "M\u00fcnster"
