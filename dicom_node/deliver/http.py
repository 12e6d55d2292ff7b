"""Connections to HTTP servers, by Python's own client: it follows no redirects and asks no proxy."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.metadata import version
from urllib.parse import urlsplit

from dicom_node.errors import PassingFailure

CONNECTING_SECONDS = 10.0
USER_AGENT = f"Hilum/{version('hilum')}"


@contextmanager
def connected(url: str, timeout_seconds: float, tls: ssl.SSLContext | None = None) -> Iterator[HTTPConnection]:
    """Connect to the server of a URL for the time of a ``with``; with https its certificate must name its host.

    Messages name the host alone: the rest of a URL may hold keys.

    Parameters
    ----------
    timeout_seconds : float
        How long the server may be silent; for connecting it has at most 10 s.
    tls : ssl.SSLContext, optional
        Whom to trust and what to show; without it, whom this machine trusts.

    Raises
    ------
    PassingFailure
        The connection fails, then or later.
    """
    target = urlsplit(url)
    host, connecting = target.hostname or "", min(timeout_seconds, CONNECTING_SECONDS)
    try:
        connection = (  # without a port, Python takes the end of an IPv6 address for one
            HTTPSConnection(host, target.port or 443, timeout=connecting, context=tls or ssl.create_default_context())
            if target.scheme == "https"
            else HTTPConnection(host, target.port or 80, timeout=connecting)
        )
        with closing(connection):
            connection.connect()
            connection.sock.settimeout(timeout_seconds)
            connection.timeout = timeout_seconds  # of another one, where the server ends this one after an answer
            yield connection
    except ssl.SSLCertVerificationError as error:
        raise PassingFailure(
            "server-untrusted", f"{host} presents a certificate that is not trusted: {error.verify_message}"
        ) from error
    except (OSError, HTTPException, UnicodeError) as error:
        raise PassingFailure(
            "server-unreachable",
            f"{host} cannot be reached or does not answer ({type(error).__name__}); check the URL, firewall and TLS",
        ) from error


def phrase(status: int) -> str:
    """Return an HTTP status with its meaning, in our own words and not the server's."""
    known = {known.value: known.phrase for known in HTTPStatus}
    return f"HTTP {status} {known.get(status, '')}".rstrip()
