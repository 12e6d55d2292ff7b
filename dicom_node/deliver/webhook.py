"""Signed POST requests to the webhook, after the specification Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from dicom_node.deadline import hung_up_after
from dicom_node.deliver import http
from dicom_node.errors import SettingsError
from dicom_node.record.database import now
from dicom_node.settings import NotificationSettings
from dicom_node.study import Notification

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)
"""The lengths of a key that the specification allows."""


def read_key(path: Path | None) -> bytes:
    """Return the signing key.

    Raises
    ------
    SettingsError
        No file is set, it cannot be read, or it holds no key.
    """
    if path is None:
        raise SettingsError("no-secret", "expected notification.secret, the file with the signing key")
    try:
        text = path.read_text(encoding="ascii").strip()
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except OSError as error:
        raise SettingsError("secret-unreadable", f"notification.secret: {path}: {error.strerror}") from error
    except (UnicodeDecodeError, binascii.Error):
        text, key = "", b""
    if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
        raise SettingsError(
            "secret-malformed",
            f"expected {PREFIX} and 24 to 64 bytes in base64 in {path}; create it with: "
            f'echo "{PREFIX}$(openssl rand -base64 32)" > {path}',
        )
    return key


def signed_headers(key: bytes, notification_id: str, body: bytes, time: float) -> dict[str, str]:
    """Return the headers with the notification's identifier, the time (seconds since the epoch) and the signature."""
    timestamp = str(int(time))
    signature = hmac.digest(key, f"{notification_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": notification_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def post(settings: NotificationSettings, key: bytes, notification: Notification) -> int:
    """Send a notification; return the HTTP status that the receiver answered.

    Raises
    ------
    PassingFailure
        The receiver cannot be reached, its certificate is not trusted, or it does not answer in time.
    """
    body = notification.body.encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": http.USER_AGENT,
        **signed_headers(key, notification.notification_id, body, now()),
    }
    url = urlsplit(settings.url)
    target = url._replace(scheme="", netloc="", path=url.path or "/", fragment="").geturl()
    with connected(settings) as connection:
        connection.request("POST", target, body, headers)
        return connection.getresponse().status


@contextmanager
def connected(settings: NotificationSettings) -> Iterator[HTTPConnection]:
    """Connect to the receiver for the time of a ``with``; hang up after ``timeout_seconds``, even amid a slow answer.

    Raises
    ------
    PassingFailure
        The connection fails, at once or during the ``with``.
    """
    with (
        http.connected(settings.url, settings.timeout_seconds) as connection,
        hung_up_after(connection.sock, settings.timeout_seconds),
    ):
        yield connection


def is_success(status: int) -> bool:
    """Whether an HTTP status says that the receiver took the notification."""
    return status // 100 == 2


def is_passing(status: int) -> bool:
    """Whether the receiver may take it later: it failed (5xx), timed out (408), or wants it later (425, 429)."""
    return status // 100 == 5 or status in (408, 425, 429)
