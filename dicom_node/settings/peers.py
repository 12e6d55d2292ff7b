"""Settings of peers: destinations of results, the source of priors, and the webhook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from dicom_node.settings.section import LOOPBACK, AETitle, Seconds, Section


class DeliverySettings(Section):
    """When to send again what failed: the pause doubles from ``first_retry_seconds`` to ``longest_retry_seconds``."""

    first_retry_seconds: Seconds = 10.0
    """Pause before a failed delivery is tried again."""
    longest_retry_seconds: Seconds = 3600.0
    """The longest pause."""
    network_timeout_seconds: Seconds = 60.0
    """If a PACS is silent for this long, Hilum tries again later."""
    commitment_retry_seconds: Seconds = 3600.0
    """If a PACS was asked to commit and does not report, Hilum asks again after this. Set it longer than the PACS takes
    to commit: once Hilum has asked again, it ignores the report on the earlier request."""


DestinationName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Destination(Section):
    """A PACS to which Hilum sends results by C-STORE."""

    name: DestinationName
    """Its name in commands and in the record."""
    ae_title: AETitle
    """Its AE title."""
    host: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Its address."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Its port."""
    storage_commitment: bool = False
    """Ask it to commit to what it accepted (N-ACTION); files are removed only after it has."""
    tls: bool = False
    """Use TLS."""


class WebDestination(Section):
    """A DICOMweb service to which Hilum sends results by STOW-RS: a destination with a URL."""

    name: DestinationName
    """Its name in commands and in the record."""
    url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$")]
    """Its base URL, https://HOST/PATH; Hilum posts to URL/studies."""
    authorities: Path | None = None
    """CAs for its certificate (PEM); unset: those this machine trusts, or with client_certificate those of [tls]."""
    client_certificate: bool = False
    """Present Hilum's certificate, that of [tls]."""
    credentials: Path | None = None
    """A file with USER:PASSWORD (Basic) or a token (Bearer), readable by Hilum alone; read again for every study."""
    allow_unsecured: bool = False
    """Send to another machine by http, without TLS, on a network that is safe by other means."""

    @property
    def host(self) -> str:
        """The host name or address in the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_encrypted(self) -> bool:
        """Whether the service uses TLS."""
        return self.url.startswith("https://")

    @model_validator(mode="after")
    def is_a_safe_base(self) -> Self:
        """Require https, unless http is allowed, and a URL without secrets or a query.

        Audit messages contain the URL, and a path is appended to it.
        """
        try:
            target = urlsplit(self.url)
            has_port = target.port != 0
        except ValueError:
            has_port = False
        if not (self.host and has_port):
            raise ValueError("url must be https://HOST/PATH; a port, if given, must be 1 to 65535")
        if target.username is not None or target.query or target.fragment:
            raise ValueError("url must not contain a user, password or query: put secrets into a file (credentials)")
        if not self.is_encrypted and not self.allow_unsecured and self.host not in LOOPBACK:
            raise ValueError(
                "url must be https: with http, anyone on the network could read what is sent. If the network is safe "
                "by other means, set allow_unsecured = true"
            )
        if not self.is_encrypted and (self.client_certificate or self.authorities):
            raise ValueError("url must be https: http uses no certificates (client_certificate, authorities)")
        return self


def kind_of(destination: Any) -> str:
    """Return the kind of a destination: one with a URL is a DICOMweb service."""
    has_url = "url" in destination if isinstance(destination, dict) else isinstance(destination, WebDestination)
    return "dicomweb" if has_url else "dimse"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[WebDestination, Tag("dicomweb")], Discriminator(kind_of)
]


class PriorSettings(Section):
    """Where earlier reports on a patient come from: the record, and the destination named here.

    That destination must answer C-FIND and C-MOVE (Study Root), and know ``node.ae_title`` as a destination.
    """

    source: str = ""
    """Name of the destination to ask for earlier reports; empty: only the record."""
    timeout_seconds: Seconds = 15.0
    """If the PACS is silent for this long, the study is measured without priors."""
    longest_seconds: Seconds = 120.0
    """If an association with the PACS lasts longer, Hilum ends it and the study is measured without priors."""
    analyze: bool = False
    """If the last earlier chest CT has no report, fetch its images (C-GET) and measure it for the comparison."""

    @model_validator(mode="after")
    def ask_somebody(self) -> Self:
        """Require a source for ``analyze``, because only a PACS has the images."""
        if self.analyze and not self.source:
            raise ValueError("analyze needs source, the destination that has the images")
        return self


class NotificationSettings(Section):
    """A webhook that Hilum notifies when a study has ended; off without ``url``.

    Notifications are signed with ``secret``, so that the receiver knows who sent them. They go to other machines only
    encrypted, unless ``allow_unsecured`` is true.
    """

    url: Annotated[str, StringConstraints(pattern=r"^(|https?://[!-~]+)$")] = ""
    """https://HOST/PATH, which gets a POST; empty: off."""
    secret: Path | None = None
    """A file with the signing key, readable by Hilum alone: whsec_ and 24 to 64 bytes in base64."""
    events: Annotated[
        tuple[Literal["done", "refused", "failed", "above-threshold", "withheld"], ...], Field(min_length=1)
    ] = ("done", "refused", "failed")
    """When to notify; "above-threshold": a study is done with more than threshold_percent, "withheld": a study is done
    without a percentage."""
    threshold_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    """Infected percentage of the lungs (PoIR) above which a study counts as above the threshold."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """If the receiver does not answer within this time, Hilum tries again later."""
    allow_unsecured: bool = False
    """Send to another machine by http, without TLS, on a network that is safe by other means."""

    @property
    def host(self) -> str:
        """Host name or address of the receiver, for messages; the rest of the URL may contain keys."""
        return urlsplit(self.url).hostname or ""

    @model_validator(mode="after")
    def can_be_sent(self) -> Self:
        """Reject settings with which no notification could be sent, before there is one to send."""
        if "above-threshold" in self.events and self.threshold_percent is None:
            raise ValueError('events with "above-threshold" need threshold_percent')
        if not self.url:
            return self
        target = urlsplit(self.url)  # raises ValueError too, as does reading an impossible port
        if not target.hostname or target.port == 0 or "@" in target.netloc:
            raise ValueError("expected a url with a host and without a password: https://HOST/PATH")
        if self.secret is None:
            raise ValueError("a url needs secret, the file with the signing key")
        if target.scheme == "http" and target.hostname not in LOOPBACK and not self.allow_unsecured:
            raise ValueError(
                f"http to {target.hostname} is unencrypted: anyone on the network can read which studies were "
                "measured. Use https; or, if the network itself is closed, set notification.allow_unsecured = true"
            )
        return self
