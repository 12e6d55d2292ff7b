"""Connections to HTTP servers with Python's own client, which follows no redirects and uses no proxy."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection, responses
from importlib.metadata import version
from urllib.parse import urlsplit

from dicom_node.errors import HungUp, PassingFailure

CONNECTING_SECONDS = 10.0
USER_AGENT = f"Hilum/{version('hilum')}"


@contextmanager
def connected(url: str, timeout_seconds: float, tls: ssl.SSLContext | None = None) -> Iterator[HTTPConnection]:
    """Connect to the server of a URL for the time of a ``with``; with https, its certificate must name the host.

    Error messages name only the host, because the rest of a URL may contain keys.

    Parameters
    ----------
    timeout_seconds : float
        How long the server may be silent; connecting may take at most 10 s.
    tls : ssl.SSLContext, optional
        The authorities to trust and the certificate to present; by default, the authorities that this machine trusts
        and no certificate.

    Raises
    ------
    PassingFailure
        No connection can be made.
    HungUp
        The connection fails during the ``with``.
    """
    target = urlsplit(url)
    host, connecting = target.hostname or "", min(timeout_seconds, CONNECTING_SECONDS)
    failure = PassingFailure
    try:
        connection = (  # if it gets no port, Python takes the end of an IPv6 address for the port
            HTTPSConnection(host, target.port or 443, timeout=connecting, context=tls or ssl.create_default_context())
            if target.scheme == "https"
            else HTTPConnection(host, target.port or 80, timeout=connecting)
        )
        with closing(connection):
            connection.connect()
            connection.sock.settimeout(timeout_seconds)
            connection.timeout = timeout_seconds  # for the reconnection if the server closes this one after an answer
            failure = HungUp
            yield connection
    except ssl.SSLCertVerificationError as error:
        raise PassingFailure(
            "server-untrusted", f"{host} presents a certificate that is not trusted: {error.verify_message}"
        ) from error
    except (OSError, HTTPException, UnicodeError) as error:
        raise failure(
            "server-unreachable",
            f"{host} cannot be reached or does not answer ({type(error).__name__}); check the URL, firewall and TLS",
        ) from error


def phrase(status: int) -> str:
    """Return an HTTP status with its standard phrase, not with the server's own."""
    return f"HTTP {status} {responses.get(status, '')}".rstrip()
