"""A signed POST, verified as the operator's guide tells receivers to, with servers that behave well and badly."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from dicom_node.deliver.webhook import post, read_key, signed_headers
from dicom_node.errors import PassingFailure, SettingsError
from dicom_node.study import Notification
from tests.certificates import make_authority
from tests.dicom_node.webhooks import SECRET, answering, is_from_hilum, receiving, webhook
from tests.services import free_port, wait_until

TOLD = Notification("job.done", "job", "1.2.3", '{"id": "job.done"}')
BODY = TOLD.body.encode()


@pytest.fixture
def key(tmp_path: Path) -> bytes:
    return read_key(webhook(tmp_path, 1).secret)


def test_the_signature_is_that_of_the_specifications_example(key: bytes) -> None:
    headers = signed_headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_is_sent_verifies_with_the_secret_and_with_no_other(tmp_path: Path, key: bytes) -> None:
    with receiving() as receiver:
        assert post(webhook(tmp_path, receiver.port), key, TOLD) == 204
    ((_, headers, body),) = receiver.taken
    assert body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "job.done"
    assert is_from_hilum(SECRET, headers, body)
    assert not is_from_hilum("whsec_" + "A" * 32, headers, body)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "body"])
def test_what_was_changed_on_the_way_does_not_verify(key: bytes, name: str) -> None:
    now = int(time.time())
    sent = {**signed_headers(key, TOLD.notification_id, BODY, now), "body": "same"}
    changed = sent | {name: str(now + 1)}
    assert not is_from_hilum(SECRET, changed, changed["body"].encode() if name == "body" else BODY)


def test_a_copy_that_is_sent_later_does_not_verify(key: bytes) -> None:
    assert is_from_hilum(SECRET, signed_headers(key, TOLD.notification_id, BODY, time.time() - 200), BODY)
    assert not is_from_hilum(SECRET, signed_headers(key, TOLD.notification_id, BODY, time.time() - 400), BODY)


def test_path_and_query_of_the_url_are_asked_for(tmp_path: Path, key: bytes) -> None:
    with receiving() as receiver:
        post(webhook(tmp_path, 1, url=f"http://localhost:{receiver.port}/a/b?site=1"), key, TOLD)
        post(webhook(tmp_path, 1, url=f"http://localhost:{receiver.port}?site=1"), key, TOLD)
        post(webhook(tmp_path, 1, url=f"http://localhost:{receiver.port}"), key, TOLD)
    assert [path for path, _, _ in receiver.taken] == ["/a/b?site=1", "/?site=1", "/"]


def test_a_redirect_is_not_followed(tmp_path: Path, key: bytes) -> None:
    with receiving() as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/"
        with receiving(answering(307, Location=location)) as receiver:
            assert post(webhook(tmp_path, receiver.port), key, TOLD) == 307
    assert elsewhere.taken == []


def test_a_receiver_that_is_away_is_a_passing_failure_that_does_not_tell_the_url(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(PassingFailure, match=r"^127\.0\.0\.1 cannot be reached") as raised:
        post(webhook(tmp_path, free_port()), key, TOLD)
    assert "/hook" not in raised.value.message


def test_a_receiver_that_answers_a_byte_at_a_time_is_hung_up_on(tmp_path: Path, key: bytes) -> None:
    ended: list[bool] = []

    def dribble(request: BaseHTTPRequestHandler) -> None:
        try:
            for _ in range(200):
                request.wfile.write(b"H")
                time.sleep(0.05)
        except OSError:
            ended.append(True)

    with receiving(dribble) as receiver:
        with pytest.raises(PassingFailure, match="does not answer"):
            post(webhook(tmp_path, receiver.port, timeout_seconds=0.3), key, TOLD)
        wait_until(lambda: bool(ended), "the receiver to notice")


def test_a_receiver_must_have_a_certificate_that_is_trusted_and_names_it(
    tmp_path: Path, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path)
    theirs = authority.sign("receiver", "DNS:localhost")
    with receiving(certificate=theirs) as receiver:
        settings = webhook(tmp_path, 1, url=f"https://localhost:{receiver.port}/")
        by_address = webhook(tmp_path, 1, url=f"https://127.0.0.1:{receiver.port}/")
        with pytest.raises(PassingFailure, match="not trusted"):
            post(settings, key, TOLD)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        with pytest.raises(PassingFailure, match="not trusted"):
            post(by_address, key, TOLD)
        assert receiver.taken == []
        assert post(settings, key, TOLD) == 204


def test_no_proxy_is_asked(tmp_path: Path, key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    with receiving() as receiver:
        assert post(webhook(tmp_path, receiver.port), key, TOLD) == 204


@pytest.mark.parametrize(
    "content", ["", "telling", "whsec_", "whsec_dGVsbGluZw==", "whsec_tell!ng", SECRET[6:], "whsec_" + "A" * 88, "ä"]
)
def test_a_secret_of_another_form_is_refused_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "webhook.secret"
    path.write_text(content)
    with pytest.raises(SettingsError, match="openssl rand") as raised:
        read_key(path)
    assert "tell" not in raised.value.message


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_key(tmp_path / "nowhere")
