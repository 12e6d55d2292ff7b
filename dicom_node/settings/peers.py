"""Whom Hilum sends to, asks, and tells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from dicom_node.settings.section import LOOPBACK, AETitle, Seconds, Section


class DeliverySettings(Section):
    """How results are tried again: the pause doubles from ``first_retry_seconds`` to the ceiling."""

    first_retry_seconds: Seconds = 10.0
    """Pause before a failed delivery is tried again."""
    longest_retry_seconds: Seconds = 3600.0
    """Up to which the pause doubles."""
    network_timeout_seconds: Seconds = 60.0
    """A PACS that is silent for so long is tried again later."""
    commitment_retry_seconds: Seconds = 3600.0
    """A PACS that was asked to commit and did not report is asked again after this. Longer than it takes to commit: a
    report on what has been asked again since counts for nothing."""


DestinationName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Destination(Section):
    """A PACS that results are sent to by C-STORE."""

    name: DestinationName
    """What it is called in commands and in the record."""
    ae_title: AETitle
    """Its AE title."""
    host: str
    """Its address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its port."""
    storage_commitment: bool = False
    """Ask it to commit to what it was sent (N-ACTION); files are removed only then."""
    tls: bool = False
    """Speak TLS with it."""


class WebDestination(Section):
    """A DICOMweb service that results are sent to by STOW-RS: a destination with a URL."""

    name: DestinationName
    """What it is called in commands and in the record."""
    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")]
    """Its base URL, https://HOST/PATH; Hilum posts to URL/studies."""
    authorities: Path | None = None
    """Who signs its certificate, as PEM; unset: whom this machine trusts, with client_certificate those of [tls]."""
    client_certificate: bool = False
    """Show it Hilum's certificate, that of [tls]."""
    credentials: Path | None = None
    """A file with USER:PASSWORD (Basic) or a token (Bearer), readable by Hilum alone; it is read for every study."""
    allow_unsecured: bool = False
    """Send to another machine by http, without TLS, on a network that is safe by other means."""

    @property
    def host(self) -> str:
        """Its name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self.url.startswith("https://")

    @model_validator(mode="after")
    def is_a_safe_base(self) -> Self:
        """A path is put behind the URL, and audit messages tell it."""
        try:
            target = urlsplit(self.url)
            has_port = target.port != 0
        except ValueError:
            has_port = False
        if not (self.host and has_port):
            raise ValueError("url must be https://HOST/PATH, with a port of 1 to 65535 where it has one")
        if target.username is not None or target.query or target.fragment:
            raise ValueError("url must hold no user, password or query: put what is secret into a file (credentials)")
        if not self.is_encrypted and not self.allow_unsecured and self.host not in LOOPBACK:
            raise ValueError(
                "url must be https: with http everyone on the way could read what is sent. On a network that is safe "
                "by other means, say so with allow_unsecured = true"
            )
        if not self.is_encrypted and (self.client_certificate or self.authorities):
            raise ValueError("url must be https: with http no certificates are shown (client_certificate, authorities)")
        return self


def kind_of(destination: Any) -> str:
    """Return which of the two a destination is: the one with a URL is a DICOMweb service."""
    has_url = "url" in destination if isinstance(destination, dict) else isinstance(destination, WebDestination)
    return "dicomweb" if has_url else "dimse"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[WebDestination, Tag("dicomweb")], Discriminator(kind_of)
]


class PriorSettings(Section):
    """Where earlier reports on a patient come from: the record, and the destination that is named here.

    It must answer C-FIND and C-MOVE (Study Root), and know ``node.ae_title`` as a destination of its own.
    """

    source: str = ""
    """Name of the destination to ask for earlier reports; empty: the record alone."""
    timeout_seconds: Seconds = 15.0
    """A PACS that is silent for so long is waited for no longer, and the study goes on without priors."""
    longest_seconds: Seconds = 120.0
    """An association with the PACS that lasts longer is ended, and the study goes on without priors."""
    analyze: bool = False
    """Get the images (C-GET) of the last earlier chest CT if it has no report, and measure it for the comparison."""

    @model_validator(mode="after")
    def ask_somebody(self) -> Self:
        """Images come from the PACS alone."""
        if self.analyze and not self.source:
            raise ValueError("analyze needs source, the destination that has the images")
        return self


class NotificationSettings(Section):
    """A webhook that is told when a study has ended; without ``url`` nobody is.

    What is sent is signed with ``secret``, so that the receiver knows who sent it. Beyond this machine it is sent
    encrypted alone.
    """

    url: Annotated[str, StringConstraints(pattern=r"^(|https?://[!-~]+)$")] = ""
    """https://HOST/PATH, which gets a POST; empty: nobody is told."""
    secret: Path | None = None
    """A file with the key of the signature, readable by Hilum alone: whsec_ and 24 to 64 bytes in base64."""
    events: Annotated[
        tuple[Literal["done", "refused", "failed", "above-threshold", "withheld"], ...], Field(min_length=1)
    ] = ("done", "refused", "failed")
    """What is told; "above-threshold" is a study that is done with more than threshold_percent, "withheld" one that is
    done without a percentage."""
    threshold_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    """Infected percentage of the lungs (PoIR) above which a study is said to be so."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """A receiver that has not answered within this is tried again later."""
    allow_unsecured: bool = False
    """Send to another machine by http, without TLS, on a network that is safe by other means."""

    @property
    def host(self) -> str:
        """Name or address of the receiver; the rest of the URL may hold keys, and is told to nobody."""
        return urlsplit(self.url).hostname or ""

    @model_validator(mode="after")
    def can_be_sent(self) -> Self:
        """Say what is missing before a study has to be told."""
        if "above-threshold" in self.events and self.threshold_percent is None:
            raise ValueError('events with "above-threshold" need threshold_percent')
        if not self.url:
            return self
        target = urlsplit(self.url)  # raises ValueError too, as does an impossible port
        if not target.hostname or target.port == 0 or "@" in target.netloc:
            raise ValueError("expected a url with a host and without a password: https://HOST/PATH")
        if self.secret is None:
            raise ValueError("a url needs secret, the file with the key of the signature")
        if target.scheme == "http" and target.hostname not in LOOPBACK and not self.allow_unsecured:
            raise ValueError(
                f"http to {target.hostname} is unencrypted: everybody on the way can read which studies were measured. "
                "Use https; or, where the network itself is closed, say so with notification.allow_unsecured = true"
            )
        return self
