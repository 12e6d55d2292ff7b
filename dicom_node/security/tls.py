"""DICOM over TLS with certificates on both sides: the BCP 195 RFC 8996, 9325 profile (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_node.errors import SettingsError
from dicom_node.settings import TLSSettings

CIPHER_SUITES = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256")
    for signature in ("ECDSA", "RSA")
)
"""For TLS 1.2 (RFC 9325 4.2); those of TLS 1.3 are all acceptable."""


def server_context(settings: TLSSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the node, which requires a certificate of its peers; None if TLS is not set.

    Raises
    ------
    SettingsError
        A file cannot be read, or is not what it should be.
    """
    if not settings.enabled:
        return None
    context = make_context(ssl.PROTOCOL_TLS_SERVER, settings)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return the TLS context for connections to a peer; its certificate must be for its host (RFC 9325 7.1).

    Raises
    ------
    SettingsError
        A file cannot be read, or is not what it should be.
    """
    return make_context(ssl.PROTOCOL_TLS_CLIENT, settings)


def service_context(authorities: Path | None, own: TLSSettings | None) -> ssl.SSLContext:
    """Return the TLS context for connections to a DICOMweb service; its certificate must be for its host.

    Parameters
    ----------
    authorities : Path, optional
        CAs for its certificate (PEM); default: those of ``own``, or without ``own`` those that this machine trusts.
    own : TLSSettings, optional
        Hilum's certificate, to present to the service.

    Raises
    ------
    SettingsError
        A file cannot be read, or is not what it should be.
    """
    if own:
        return client_context(own.model_copy(update={"authorities": authorities or own.authorities}))
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError("tls-files", f"expected PEM certificates of authorities in {authorities}") from error


def make_context(protocol: int, settings: TLSSettings) -> ssl.SSLContext:
    """Return a TLS context with Hilum's certificate; it trusts only the authorities in the settings."""
    if not (settings.certificate and settings.key and settings.authorities):
        raise SettingsError("tls-not-set", "expected tls.certificate, tls.key and tls.authorities; got none of them")
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        # Without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(settings.certificate, settings.key, password=no_password)
        context.load_verify_locations(settings.authorities)
    except (OSError, ValueError) as error:
        raise SettingsError("tls-files", f"expected PEM files {why_not(settings, error)}") from error
    return context


def no_password() -> str:
    """Refuse an encrypted key, for which OpenSSL asks a password."""
    raise ValueError("the key is encrypted; store it without a password, readable by Hilum alone")


def why_not(settings: TLSSettings, error: OSError | ValueError) -> str:
    """Return which of the files is wrong, as far as that is known."""
    for name in type(settings).model_fields:
        path: Path = getattr(settings, name)
        try:
            path.open("rb").close()
        except OSError as unreadable:
            return f"in tls.{name}: {path} cannot be read ({unreadable.strerror})"
    reason = getattr(error, "reason", None) or str(error)
    return f"with a certificate, its key, and certificates of authorities in section [tls]; got: {reason}"
