"""Settings: where they come from, which source wins, and the messages about wrong ones."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError
from pynetdicom._validators import validate_ae
from sqlalchemy import make_url

from dicom_node.errors import SettingsError
from dicom_node.settings import Destination, Settings, WebDestination, load_settings
from dicom_node.settings.section import AETitle


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hilum.toml"
    monkeypatch.setenv("HILUM_CONFIG", str(path))
    return path


def complaint_about(settings: Path, content: str) -> str:
    settings.write_text(content)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return raised.value.message


def test_defaults_stand_where_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HILUM_WORKER__METHOD")  # which the other tests use
    assert load_settings() == Settings.model_construct()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("node", "host", "127.0.0.1"),
        ("node", "port", 11112),
        ("node", "allow_unsecured", False),
        ("node", "any_called_ae_title", False),
        ("node", "maximum_associations", 64),
        ("node", "maximum_pdu_bytes", 2**20),
        ("node", "maximum_object_bytes", 4 * 2**30),
        ("node", "network_timeout_seconds", 60.0),
        ("node", "quiet_seconds", 30.0),
        ("storage", "keep_days", None),
        ("storage", "warn_free_gib", 10.0),
        ("storage", "refuse_free_gib", 1.0),
        ("priors", "timeout_seconds", 15.0),
        ("priors", "longest_seconds", 120.0),
        ("priors", "analyze", False),
        ("notification", "url", ""),
        ("notification", "events", ("done", "refused", "failed")),
        ("notification", "timeout_seconds", 10.0),
        ("worker", "method", "network"),
    ],
)
def test_a_default_is_what_the_operators_guide_says(section: str, name: str, value: object) -> None:
    assert getattr(getattr(Settings.model_construct(), section), name) == value


def test_the_file_here_is_read_without_being_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hilum.toml").write_text("[node]\nport = 104\n")
    assert load_settings().node.port == 104


@pytest.mark.parametrize("closed", ["hilum.toml", "/etc/hilum/hilum.toml"])
def test_a_folder_that_cannot_be_searched_for_the_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """For example root's home folder for another user. Simulated, because root may search every folder."""
    status_of = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if str(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return status_of(path, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "stat", stat)
    folder = (tmp_path / closed).parent
    with pytest.raises(SettingsError, match=f"^{folder} cannot be searched for hilum.toml: Permission denied"):
        load_settings()


def test_the_environment_wins_over_the_file_key_by_key(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file.write_text('[node]\nport = 104\nae_title = "FILE"\n')
    monkeypatch.setenv("HILUM_NODE__PORT", "11113")
    node = load_settings().node
    assert (node.port, node.ae_title) == (11113, "FILE")


def test_a_secret_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hilum_database__url").write_text("postgresql://hilum:secret@db/hilum\n")
    monkeypatch.setenv("HILUM_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("HILUM_DATABASE__URL", "sqlite:///environment.sqlite3")
    assert load_settings().database_url == "postgresql://hilum:secret@db/hilum"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("HILUM_SECRETS_DIR", str(folder))
    return folder


@pytest.mark.parametrize("relative", [".", ".."])
def test_a_secret_that_is_a_link_is_in_force(secrets: Path, relative: str) -> None:
    """Kubernetes and systemd make such links; those of systemd lead to files outside the folder."""
    secret = secrets / relative / "some.url"
    secret.write_text("postgresql://hilum:secret@db/hilum\n")
    (secrets / "hilum_database__url").symlink_to(secret)
    assert load_settings().database_url == "postgresql://hilum:secret@db/hilum"


def test_a_secret_may_hold_json(secrets: Path) -> None:
    (secrets / "hilum_destinations").write_text('[{"name": "PACS", "ae_title": "ORTHANC", "host": "h", "port": 104}]\n')
    assert load_settings().destinations[0].name == "PACS"


def test_a_secret_with_malformed_json_is_an_error_that_names_their_folder(secrets: Path) -> None:
    (secrets / "hilum_destinations").write_text('[{"name": "s3cret"')
    with pytest.raises(SettingsError, match=f'{secrets}: .* "destinations" .* "SecretFiles"') as raised:
        load_settings()
    assert "s3cret" not in raised.value.message


def test_other_files_beside_the_secrets_are_left_alone(secrets: Path) -> None:
    (secrets / "postgres_password").write_bytes(b"\xff")
    (secrets / "..data").mkdir()
    assert load_settings() == Settings()


def test_a_secrets_folder_that_cannot_be_listed_is_an_error(secrets: Path) -> None:
    secrets.rmdir()
    secrets.symlink_to(secrets)  # a link to itself, which root cannot list either
    with pytest.raises(SettingsError, match=f"HILUM_SECRETS_DIR: {secrets} cannot be listed"):
        load_settings()


def test_a_secret_that_leads_nowhere_is_an_error(secrets: Path) -> None:
    (secrets / "hilum_database__url").symlink_to(secrets / "nowhere")
    with pytest.raises(SettingsError, match=f"{secrets}/hilum_database__url cannot be read"):
        load_settings()


def test_a_folder_in_the_place_of_a_secret_is_an_error(secrets: Path) -> None:
    """Docker makes such a folder if the file to mount is missing."""
    (secrets / "hilum_database__url").mkdir()
    with pytest.raises(SettingsError, match=f"{secrets}/hilum_database__url cannot be read"):
        load_settings()


def test_a_secret_without_permission_to_read_it_is_an_error(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "hilum_database__url").write_text("postgresql://hilum:secret@db/hilum\n")
    read = Path.read_text

    def read_text(path: Path, **options: str) -> str:  # root may read everything
        if path.name.startswith("hilum_"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(SettingsError, match=f"{secrets}/hilum_database__url cannot be read"):
        load_settings()


def test_a_secret_that_is_not_utf_8_is_an_error_that_does_not_show_it(secrets: Path) -> None:
    (secrets / "hilum_database__url").write_bytes(b"postgresql://hilum:s3cret\xfc@db/hilum\n")
    with pytest.raises(SettingsError, match=f"{secrets}/hilum_database__url cannot be read") as raised:
        load_settings()
    assert "s3cret" not in raised.value.message


def test_a_secrets_folder_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="nowhere"):
        load_settings()


def test_a_secret_that_sets_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hilum_database__urll").write_text("postgresql://hilum:secret@db/hilum")
    monkeypatch.setenv("HILUM_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"hilum_database__urll.*nearest.*hilum_database__url") as raised:
        load_settings()
    assert "secret@" not in raised.value.message


@pytest.mark.parametrize(
    ("content", "unknown", "nearest"),
    [
        ("[node]\nprot = 104\n", "node.prot", "node.port"),
        ("[nodes]\nport = 104\n", "nodes.port", "node.port"),
        ("quiet_seconds = 3\n", "quiet_seconds", "node.quiet_seconds"),
        (
            '[[destinations]]\nname="A"\nae_titel="A"\nhost="h"\nport=104\n',
            "destinations[].ae_titel",
            "destinations[].ae_title",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(
    settings_file: Path, content: str, unknown: str, nearest: str
) -> None:
    assert f"unknown setting {unknown}; the nearest known one is {nearest}" in complaint_about(settings_file, content)


def test_an_unknown_section_is_an_error_even_when_empty(settings_file: Path) -> None:
    assert "noode" in complaint_about(settings_file, "[noode]\n")


def test_an_unknown_variable_names_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_NODE__PROT", "104")
    with pytest.raises(SettingsError, match="HILUM_NODE__PROT; the nearest known one is HILUM_NODE__PORT"):
        load_settings()


def test_every_wrong_name_is_told_at_once(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_BROKER", "redis://h")
    message = complaint_about(settings_file, "[node]\nprot = 1\nhots = 2\n")
    assert all(name in message for name in ("HILUM_BROKER", "node.prot", "node.hots"))


def test_variables_of_the_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_TEST_DATA", "/somewhere")
    load_settings()


@pytest.mark.parametrize(
    "content",
    [
        "[node]\nport = 70000\n",
        "[node]\nnetwork_timeout_seconds = inf\n",
        "[storage]\nkeep_days = nan\n",
        '[node]\nae_title = "SEVENTEEN_LETTERS"\n',
        '[node]\nae_title = "BACK\\\\SLASH"\n',
        "[node]\nquiet_seconds = 0\n",
        "[jobs]\nmaximum_attempts = 0\n",
        '[report]\ntitle = "another"\n',
        '[broker]\nurl = "http://127.0.0.1/0"\n',
        '[broker]\nurl = "127.0.0.1:6379"\n',
        "[[destinations]]\nname = 'A'\nae_title = 'A'\nhost = 'h'\nport = 0\n",
    ],
)
def test_a_value_out_of_range_is_an_error(settings_file: Path, content: str) -> None:
    section = content.strip("[").split("]")[0]
    assert complaint_about(settings_file, content).startswith(section)


def test_a_destination_without_a_host_is_an_error_and_not_this_machine(settings_file: Path) -> None:
    content = "[[destinations]]\nname = 'A'\nae_title = 'A'\nhost = ''\nport = 104\n"
    assert "host" in complaint_about(settings_file, content)


DESTINATION = '[[destinations]]\nname = "A"\nhost = "h"\nport = 104\nae_title = "{}"\n'


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('[node]\nae_title = "{}"\n', "node.ae_title"),
        ('[node]\nstat_ae_title = "{}"\n', "node.stat_ae_title"),
        ('[[node.senders]]\nae_title = "{}"\n', "node.senders.0.ae_title"),
        (DESTINATION, "destinations.0.dimse.ae_title"),
    ],
)
@pytest.mark.parametrize(
    ("title", "code"), [(r"M\u00dcNSTER", "U+00DC"), (r"PA\u200bCS", "U+200B"), (r"PACS\\1", "U+005C")]
)
def test_an_ae_title_beyond_ascii_is_an_error_that_names_the_character(
    settings_file: Path, content: str, where: str, title: str, code: str
) -> None:
    message = complaint_about(settings_file, content.format(title))
    assert message.startswith(f"{where}: ")
    assert code in message


def test_an_ae_title_is_taken_if_pynetdicom_takes_it() -> None:
    """For other titles pynetdicom raises an error when it associates, which would end delivery."""
    refused = {chr(code) for code in range(0x3000) if not validate_ae(f"A{chr(code)}B")[0]}
    settings = TypeAdapter(AETitle)

    def takes(character: str) -> bool:
        with suppress(ValidationError):
            return settings.validate_python(f"A{character}B") == f"A{character}B"
        return False

    assert {chr(code) for code in range(0x3000) if not takes(chr(code))} == refused


def test_spaces_around_an_ae_title_do_not_count(settings_file: Path) -> None:
    settings_file.write_text(DESTINATION.format("  THE PACS "))
    (pacs,) = load_settings().destinations
    assert isinstance(pacs, Destination)
    assert pacs.ae_title == "THE PACS"


def test_an_error_never_shows_the_value(settings_file: Path) -> None:
    message = complaint_about(settings_file, '[database]\nurl = ["postgresql://hilum:s3cret@db/hilum"]\n')
    assert "database.url" in message
    assert "s3cret" not in message


def test_two_destinations_of_one_name_are_an_error(settings_file: Path) -> None:
    one = '[[destinations]]\nname = "PACS"\nae_title = "A"\nhost = "h"\nport = 104\n'
    assert "PACS" in complaint_about(settings_file, one + one)


def test_one_ae_title_for_stat_and_routine_is_an_error(settings_file: Path) -> None:
    assert "stat_ae_title" in complaint_about(settings_file, '[node]\nae_title = "HILUM_STAT"\n')


def test_destinations_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DESTINATIONS", '[{"name": "PACS", "ae_title": "ORTHANC", "host": "h", "port": 104}]')
    assert load_settings().destinations[0].ae_title == "ORTHANC"


def test_a_destination_with_a_url_is_a_dicomweb_service(settings_file: Path) -> None:
    settings_file.write_text(
        '[[destinations]]\nname = "A"\nae_title = "A"\nhost = "h"\nport = 104\n'
        '[[destinations]]\nname = "B"\nurl = "https://pacs.example:8443/dicom-web"\n'
    )
    pacs, service = load_settings().destinations
    assert isinstance(pacs, Destination)
    assert isinstance(service, WebDestination)
    assert (service.host, service.is_encrypted) == ("pacs.example", True)


@pytest.mark.parametrize(
    ("destination", "word"),
    [
        ('url = "http://pacs.example/dicom-web"', "allow_unsecured"),
        ('url = "https://hilum:s3cret@pacs.example"', "credentials"),
        ('url = "https://pacs.example/?key=s3cret"', "credentials"),
        ('url = "https://pacs.example:99999"', "port"),
        ('url = "https:///dicom-web"', "HOST"),
        ('url = "pacs.example"', "url"),
        ('url = "https://pacs.example"\nclient_certificate = true', "tls.certificate"),
        ('url = "http://localhost"\nclient_certificate = true', "https"),
        ('url = "http://localhost"\nauthorities = "authorities.crt"', "https"),
        ('url = "https://pacs.example"\nae_title = "PACS"', "ae_title"),
        ('url = "https://pacs.example"\nstorage_commitment = true', "storage_commitment"),
        ('url = "https://pacs.example"\n[priors]\nsource = "A"', "with an AE title"),
    ],
)
def test_a_dicomweb_service_that_cannot_be_used_is_an_error(settings_file: Path, destination: str, word: str) -> None:
    message = complaint_about(settings_file, f'[[destinations]]\nname = "A"\n{destination}\n')
    assert word in message
    assert "s3cret" not in message


@pytest.mark.parametrize("more", ['url = "http://localhost/"', 'url = "http://pacs.example"\nallow_unsecured = true'])
def test_http_is_for_this_machine_or_for_who_asks_for_it(settings_file: Path, more: str) -> None:
    settings_file.write_text(f'[[destinations]]\nname = "A"\n{more}\n')
    assert len(load_settings().destinations) == 1


def test_a_variable_that_is_no_json_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_DESTINATIONS", "PACS@host:104")
    with pytest.raises(SettingsError, match="destinations"):
        load_settings()


@pytest.mark.parametrize("content", [b"[node\n", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_said_to_be_so(settings_file: Path, content: bytes) -> None:
    settings_file.write_bytes(content)
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings()


def test_a_named_file_that_is_not_there_is_an_error(settings_file: Path) -> None:
    with pytest.raises(SettingsError, match="HILUM_CONFIG"):
        load_settings()


def test_the_record_lies_in_the_storage_folder_unless_a_url_is_set(tmp_path: Path) -> None:
    settings = Settings.model_validate({"storage": {"folder": tmp_path}})
    assert settings.database_url == f"sqlite:///{tmp_path}/record.sqlite3"


@pytest.mark.parametrize("name", ["a b", "a?b", "a%20b", "a#b", "a:b@c", "ä"])
def test_the_record_lies_in_the_storage_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    settings = Settings.model_validate({"storage": {"folder": tmp_path / name}})
    assert make_url(settings.database_url).database == f"{tmp_path}/{name}/record.sqlite3"


def test_a_relative_folder_lies_in_the_working_folder_wherever_the_settings_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("settings", "working"):
        (tmp_path / name).mkdir()
    (tmp_path / "settings" / "hilum.toml").write_text('[storage]\nfolder = "data"\n')
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setenv("HILUM_CONFIG", "../settings/hilum.toml")
    assert load_settings().database_url == f"sqlite:///{tmp_path}/working/data/record.sqlite3"


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.model_construct().node.port = 1  # type: ignore[misc]  # must not be possible


HTTPS = '[notification]\nurl = "https://worklist.example/hilum"\nsecret = "webhook.secret"\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[notification]\nurl = "https://worklist.example/hilum"\n', "needs secret"),
        (HTTPS + 'events = ["above-threshold"]\n', "need threshold_percent"),
        (HTTPS + "events = []\n", "at least 1"),
        (HTTPS.replace("https://", "https://hilum:s3cret@"), "without a password"),
        (HTTPS.replace("worklist.example", ":443"), "with a host"),
        (HTTPS.replace(".example", ":99999"), "Port out of range"),
        (HTTPS.replace("https", "ftp"), "should match"),
        (HTTPS.replace("https", "http"), "allow_unsecured"),
    ],
)
def test_a_webhook_that_could_not_be_told_is_an_error_at_the_start(
    settings_file: Path, content: str, said: str
) -> None:
    message = complaint_about(settings_file, content)
    assert said in message
    assert "s3cret" not in message


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080"])
def test_http_is_enough_for_a_webhook_on_this_machine(settings_file: Path, host: str) -> None:
    settings_file.write_text(HTTPS.replace("https://worklist.example", f"http://{host}"))
    assert load_settings().notification.url.startswith("http://")


def test_a_webhook_elsewhere_is_told_unencrypted_only_where_that_is_said(settings_file: Path) -> None:
    settings_file.write_text(HTTPS.replace("https", "http") + "allow_unsecured = true\n")
    assert load_settings().notification.host == "worklist.example"
