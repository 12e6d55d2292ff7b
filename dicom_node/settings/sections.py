"""The settings, section by section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    IPvAnyNetwork,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f]+$")
]
"""PS3.5 table 6.2-1: at most 16 characters, no backslash, no control characters."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are this machine, whatever a name server says."""


class Section(BaseModel):
    """A section of the settings; an unknown key in it is an error.

    The docstring below a setting describes it to users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Sender(Section):
    """A peer that may associate: by its AE title, and from these networks (CIDR) where any are named."""

    ae_title: AETitle
    """Its calling AE title."""
    addresses: tuple[IPvAnyNetwork, ...] = ()
    """Networks it may come from, as CIDR; empty: from everywhere."""


class NodeSettings(Section):
    """Who Hilum is on the network, who may come in, and when a study counts as whole.

    Without ``senders`` every calling AE title may. The called one must be Hilum's: a mistyped STAT title would
    otherwise be routine.
    """

    ae_title: AETitle = "HILUM"
    """Called AE title of routine studies, and the calling one of what Hilum sends."""
    stat_ae_title: AETitle = "HILUM_STAT"
    """Called AE title of urgent studies; they overtake the routine ones."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network of this machine."""
    port: Port = 11112
    """Port to listen on."""
    allow_unsecured: bool = False
    """Listen beyond this machine without TLS, on a network that is safe by other means."""
    senders: tuple[Sender, ...] = ()
    """Peers that may associate, [{ ae_title = "CT1", addresses = ["10.0.0.0/8"] }]; empty: all."""
    any_called_ae_title: bool = False
    """Take associations that call somebody else, too; they are routine."""
    maximum_associations: Annotated[int, Field(ge=1)] = 64
    """Associations at the same time; one more is rejected for now."""
    maximum_pdu_bytes: Annotated[int, Field(ge=4096, le=16 * 2**20)] = 2**20
    """Longest protocol data unit that a sender may use."""
    maximum_object_bytes: Annotated[int, Field(ge=2**20)] = 4 * 2**30
    """Largest data set that is stored."""
    quiet_seconds: Seconds = 30.0
    """A study counts as whole when nothing of it has come for so long and no association carries it."""
    association_idle_seconds: Seconds = 60.0
    """An association that says nothing for so long is aborted."""
    network_timeout_seconds: Seconds = 60.0
    """What has begun to arrive must be complete within this time."""

    @model_validator(mode="after")
    def tell_stat_from_routine(self) -> Self:
        """The called AE title decides over the queue."""
        if self.ae_title == self.stat_ae_title:
            raise ValueError(f"ae_title and stat_ae_title must differ, both are {self.ae_title}")
        return self


class TLSSettings(Section):
    """Hilum's certificate and key, and the authorities that sign its peers': PEM files, all three or none.

    With them the node listens to TLS alone.
    """

    certificate: Path | None = None
    """Hilum's certificate, with those that link it to its authority."""
    key: Path | None = None
    """The certificate's private key, readable by Hilum alone."""
    authorities: Path | None = None
    """The authorities whose certificates peers must show."""

    @model_validator(mode="after")
    def all_or_none(self) -> Self:
        """Certificates are asked for on both sides (PS3.15 B.12)."""
        missing = [name for name in type(self).model_fields if getattr(self, name) is None]
        if missing and len(missing) < len(type(self).model_fields):
            raise ValueError(f"TLS needs certificate, key and authorities; missing: {', '.join(missing)}")
        return self

    @property
    def enabled(self) -> bool:
        """Whether there is a certificate."""
        return self.certificate is not None


class AuditSettings(Section):
    """Where audit messages go: ``udp://HOST:PORT``, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; empty means nowhere."""

    url: Annotated[str, StringConstraints(pattern=r"^(|(udp|tcp|tls)://([^/:@\s]+|\[[0-9a-f:]+\]):\d{1,5})$")] = ""
    """The receiver of audit messages."""

    @property
    def protocol(self) -> str:
        """The part before the address."""
        return self.url.partition(":")[0]

    @property
    def host(self) -> str:
        """Name or address of the receiver."""
        return self.url.partition("://")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The receiver's port."""
        return int(self.url.rpartition(":")[2])


class StorageSettings(Section):
    """Where received instances and results lie, and the record where it is SQLite; and for how long.

    Below ``refuse_free_gib`` new studies are refused. Files of a study that was answered and delivered are removed
    ``keep_days`` after the last that happened to it; without ``keep_days`` never.
    """

    folder: Path = Path("hilum-data")
    """Received instances, results, and the record where it is SQLite."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Remove the files of a study so long after it was answered and delivered; unset: never."""
    warn_free_gib: Annotated[float, Field(ge=0)] = 10.0
    """Warn when less is free on the disk."""
    refuse_free_gib: Annotated[float, Field(ge=0)] = 1.0
    """Refuse new studies when less is free."""

    @model_validator(mode="after")
    def warn_first(self) -> Self:
        """A warning after the refusal is none."""
        if self.warn_free_gib < self.refuse_free_gib:
            raise ValueError("warn_free_gib must not be below refuse_free_gib")
        return self


class DatabaseSettings(Section):
    """The record; empty means SQLite in the storage folder."""

    url: str = ""
    """postgresql+psycopg://USER@HOST/NAME, where hosts share the record."""


class BrokerSettings(Section):
    """The doorbell; empty means that ``hilum up`` runs a Redis of its own."""

    url: str = ""
    """redis://HOST:6379/0, rediss://HOST:6379/0 or redis+socket:///FILE."""

    @field_validator("url")
    @classmethod
    def must_be_redis(cls, url: str) -> str:
        """Celery would find out with the first job."""
        if url and not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("expected redis://HOST:PORT/0, rediss://HOST:PORT/0 or redis+socket:///FILE")
        return url


class SelectionSettings(Section):
    """Which series of a study is measured."""

    minimum_slices: Annotated[int, Field(ge=2)] = 10
    """A series with fewer slices is not measured."""
    minimum_extent_mm: Annotated[float, Field(ge=0)] = 100.0
    """A series that covers less of the body is not measured."""
    maximum_thickness_mm: Annotated[float, Field(gt=0)] = 10.0
    """A series with thicker slices is not measured."""
    preferred_thickness_mm: Annotated[float, Field(gt=0)] = 2.0
    """Of several series, the one with slices nearest to this is measured."""


class JobSettings(Section):
    """How long a worker may be silent, and how often a job is tried."""

    lease_seconds: Seconds = 60.0
    """A worker that is silent for so long has lost its job; another takes it."""
    sweep_seconds: Seconds = 15.0
    """How often forgotten jobs are looked for."""
    maximum_attempts: Annotated[int, Field(ge=1)] = 3
    """A job that failed so often is answered with a report that says so."""
    retry_seconds: Seconds = 30.0
    """Pause before a failed job is tried again."""


class DeliverySettings(Section):
    """How results are tried again: the pause doubles from ``first_retry_seconds`` to the ceiling."""

    first_retry_seconds: Seconds = 10.0
    """Pause before a failed delivery is tried again."""
    longest_retry_seconds: Seconds = 3600.0
    """Up to which the pause doubles."""
    network_timeout_seconds: Seconds = 60.0
    """A PACS that is silent for so long is tried again later."""
    commitment_retry_seconds: Seconds = 3600.0
    """A PACS that was asked to commit and did not report is asked again after this."""


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
        return self


def kind_of(destination: Any) -> str:
    """Return which of the two a destination is: the one with a URL is a DICOMweb service."""
    has_url = "url" in destination if isinstance(destination, dict) else isinstance(destination, WebDestination)
    return "dicomweb" if has_url else "dimse"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dimse")] | Annotated[WebDestination, Tag("dicomweb")], Discriminator(kind_of)
]


class WorkerSettings(Section):
    """The analysis on this machine; 0 threads means as many as there are cores.

    With ``method = "network"`` a trained network finds lungs and infection: the one that Hilum ships, or that of
    ``weights``, a safetensors file with its card beside it.
    """

    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of one worker; 0: as many as there are cores."""
    method: Literal["thresholds", "network"] = "thresholds"
    """What finds lungs and infection."""
    weights: Path | None = None
    """A network's weights, with their card beside them; unset: those that Hilum ships."""


class ReportSettings(Section):
    """What the answers look like.

    OHIF shows a report titled DCM 126000 as a blank page. With ``rejection_note`` an answer that replaces an
    earlier one withdraws it (IHE IOCM), for archives that then hide it.
    """

    title: Literal["LN 18748-4", "DCM 126000"] = "LN 18748-4"
    """Title of the structured report."""
    rejection_note: bool = False
    """Withdraw the answer that a newer one replaces."""
    segmentation: Literal["BINARY", "LABELMAP"] = "BINARY"
    """LABELMAP is smaller, and few archives and viewers know it yet."""
    page: bool = False
    """Send a page to print too, as Encapsulated PDF; it names the patient by ID."""


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
    events: Annotated[tuple[Literal["done", "refused", "failed", "above-threshold"], ...], Field(min_length=1)] = (
        "done",
        "refused",
        "failed",
    )
    """What is told; "above-threshold" is a study that is done with more than threshold_percent."""
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
