"""TLS: certificates on both sides, against DCMTK and against peers without certificates."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from sqlalchemy import Engine

from dicom_node.cli import main
from dicom_node.deliver.destination import send_files
from dicom_node.deliver.outgoing import Answer, Outgoing
from dicom_node.deliver.scu import echo
from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.record.schema import instances
from dicom_node.security.tls import client_context, server_context
from dicom_node.settings import Destination, Settings, TLSSettings
from tests.certificates import Authority, Certificate, make_authority
from tests.dicom_node.hilum_node import hilum_node, threads_of
from tests.dicom_node.receiving import listening
from tests.dicom_node.recording import rows
from tests.factories import ct_series
from tests.services import dcmtk, free_port, running, wait_until

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"), "other")


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Certificate:
    return authority.sign("hilum")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> Certificate:
    return authority.sign("peer")


@pytest.fixture
def tls(authority: Authority, ours: Certificate) -> TLSSettings:
    return authority.settings(ours)


@pytest.fixture
def port(sqlite_record: Engine, tmp_path: Path, tls: TLSSettings) -> Iterator[int]:
    with listening(sqlite_record, tmp_path / "storage", server_context(tls)) as port:
        yield port


def associate(port: int, context: ssl.SSLContext | None) -> Association:
    ae = AE("SENDER")
    ae.acse_timeout = 20
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    tls_args = (context, "127.0.0.1") if context else None
    return ae.associate("127.0.0.1", port, ae_title="HILUM", tls_args=tls_args)


@pytest.mark.peer
def test_dcmtk_sends_over_tls(
    port: int, authority: Authority, theirs: Certificate, sqlite_record: Engine, tmp_path: Path
) -> None:
    slices = ct_series(tmp_path / "sent", np.zeros((3, 16, 16), np.int16))
    keys = ["+tls", theirs.key, theirs.certificate, "+cf", authority.certificate]
    subprocess.run([dcmtk("storescu"), *keys, "-aec", "HILUM", "127.0.0.1", str(port), *slices], check=True, timeout=60)
    assert len(rows(sqlite_record, instances)) == 3


@contextmanager
def tls_storescp(folder: Path, authority: Authority, certificate: Certificate) -> Iterator[int]:
    """Run DCMTK's storescp with TLS; yield its port."""
    port = free_port()
    folder.mkdir()
    keys = ["+tls", certificate.key, certificate.certificate, "+cf", authority.certificate]
    with running([dcmtk("storescp"), *keys, "-od", folder, str(port)], stderr=subprocess.DEVNULL):
        wait_until(lambda: listens(port), "storescp")
        yield port


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def pacs(port: int, tls: TLSSettings, host: str = "127.0.0.1") -> tuple[Destination, Settings]:
    peer = Destination(name="PACS", ae_title="PACS", host=host, port=port, tls=True)
    return peer, Settings(tls=tls, destinations=(peer,))


@pytest.mark.peer
def test_results_go_to_dcmtk_over_tls(
    tmp_path: Path, authority: Authority, theirs: Certificate, tls: TLSSettings
) -> None:
    (path,) = ct_series(tmp_path / "results", np.zeros((1, 16, 16), np.int16))
    answers: list[Answer] = []
    with tls_storescp(tmp_path / "pacs", authority, theirs) as port:
        peer, settings = pacs(port, tls)
        send_files(peer, settings, [Outgoing(path, CTImageStorage, ExplicitVRLittleEndian)], answers.append)
    assert [answer.status for answer in answers] == [0x0000]
    assert len(list((tmp_path / "pacs").iterdir())) == 1


@pytest.mark.peer
def test_a_pacs_of_another_authority_gets_nothing(
    tmp_path: Path, authority: Authority, other_authority: Authority, tls: TLSSettings
) -> None:
    server = tls_storescp(tmp_path / "pacs", authority, other_authority.sign("pacs"))
    with server as port, pytest.raises(PassingFailure, match="cannot be reached"):
        echo(*pacs(port, tls))


@pytest.mark.peer
def test_a_pacs_whose_certificate_is_for_another_host_gets_nothing(
    tmp_path: Path, authority: Authority, tls: TLSSettings
) -> None:
    server = tls_storescp(tmp_path / "pacs", authority, authority.sign("elsewhere", "DNS:elsewhere.example"))
    with server as port, pytest.raises(PassingFailure, match="cannot be reached"):
        echo(*pacs(port, tls))


def test_who_has_a_certificate_is_let_in(port: int, authority: Authority, theirs: Certificate) -> None:
    association = associate(port, client_context(authority.settings(theirs)))
    assert association.is_established
    association.release()


def test_who_has_none_of_our_authorities_certificates_is_not(
    port: int, authority: Authority, other_authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    stranger = client_context(authority.settings(other_authority.sign("stranger")))
    nobody = ssl.create_default_context(cafile=str(authority.certificate))
    for context in (stranger, nobody, None):
        assert not associate(port, context).is_established
    said = "".join(capfd.readouterr())
    assert said.count("association_refused") == 3
    assert "code=tls" in said


@pytest.mark.parametrize("context", [server_context, client_context])
def test_no_version_before_1_2_is_spoken_whatever_its_ciphers(
    tls: TLSSettings, context: Callable[[TLSSettings], ssl.SSLContext]
) -> None:
    assert context(tls).minimum_version == ssl.TLSVersion.TLSv1_2


def old_version(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def weak_cipher(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")  # in CBC mode


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ssl warns of old versions
@pytest.mark.parametrize("weaken", [old_version, weak_cipher])
def test_what_bcp_195_forbids_is_refused(
    port: int, authority: Authority, theirs: Certificate, weaken: Callable[[ssl.SSLContext], None]
) -> None:
    context = client_context(authority.settings(theirs))
    weaken(context)
    assert not associate(port, context).is_established


def test_who_never_shakes_hands_keeps_nobody_out(port: int, authority: Authority, theirs: Certificate) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    association = associate(port, client_context(authority.settings(theirs)))
    assert association.is_established
    association.release()
    for one in silent:
        one.close()


def test_two_processes_speak_tls_at_one_port(
    tmp_path: Path, authority: Authority, theirs: Certificate, tls: TLSSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TLSSettings.model_fields:
        monkeypatch.setenv(f"HILUM_TLS__{name.upper()}", str(getattr(tls, name)))
    context = client_context(authority.settings(theirs))
    with hilum_node(tmp_path) as node:
        wait_until(lambda: listens(node.port), "hilum node")
        opened = [associate(node.port, context) for _ in range(8)]
        assert all(association.is_established for association in opened)
        shares = [threads_of(pid) for pid in (node.process.pid, *node.others())]
        for association in opened:
            association.release()
    assert sum(shares) >= 8
    assert len(shares) == 1 or min(shares) > 2, shares


def test_a_peer_that_is_spelled_out_is_spoken_to_in_tls_if_asked_for(
    port: int, tls: TLSSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["echo", "--tls", f"HILUM@127.0.0.1:{port}"]) == 1
    assert "--tls needs [tls] in the settings" in capsys.readouterr().err
    for name, path in tls:
        monkeypatch.setenv(f"HILUM_TLS__{name.upper()}", str(path))
    assert main(["echo", "--tls", f"HILUM@127.0.0.1:{port}"]) == 0
    assert main(["echo", f"HILUM@127.0.0.1:{port}"]) == 1


def test_a_file_that_is_missing_is_named(tls: TLSSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tls\.key: .*none\.key cannot be read"):
        server_context(tls.model_copy(update={"key": tmp_path / "none.key"}))


def test_a_file_that_goes_missing_costs_an_association_and_no_process(tls: TLSSettings, tmp_path: Path) -> None:
    missing = tls.model_copy(update={"key": tmp_path / "none.key"})
    with pytest.raises(PassingFailure, match=r"tls\.key: .*none\.key cannot be read"):
        echo(*pacs(free_port(), missing))


def test_files_that_do_not_belong_together_are_refused(tls: TLSSettings, theirs: Certificate) -> None:
    with pytest.raises(SettingsError, match="KEY_VALUES_MISMATCH"):
        client_context(tls.model_copy(update={"key": theirs.key}))


def test_an_encrypted_key_asks_nobody_for_its_password(tls: TLSSettings, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", tls.key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    with pytest.raises(SettingsError, match="the key is encrypted"):
        server_context(tls.model_copy(update={"key": locked}))


def test_half_of_the_settings_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing: key, authorities"):
        TLSSettings(certificate=tmp_path / "hilum.crt")


def test_a_destination_with_tls_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match=r"needs tls\.certificate"):
        Settings(destinations=({"name": "PACS", "ae_title": "PACS", "host": "pacs", "port": 2762, "tls": True},))
