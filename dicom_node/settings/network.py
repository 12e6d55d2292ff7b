"""Settings of the network: addresses and AE titles, permitted senders, TLS and audit messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, IPvAnyNetwork, StringConstraints, model_validator

from dicom_node.settings.section import AETitle, Port, Seconds, Section


class Sender(Section):
    """A peer that may associate, by its AE title and, if ``addresses`` names any, its network."""

    ae_title: AETitle
    """Its calling AE title."""
    addresses: tuple[IPvAnyNetwork, ...] = ()
    """Networks it may connect from, as CIDR; empty: any."""


class NodeSettings(Section):
    """Hilum's address and AE titles, who may send, and when a study counts as complete.

    Without ``senders``, Hilum accepts any calling AE title. The called one must be Hilum's, because a mistyped STAT
    title would otherwise become routine.
    """

    ae_title: AETitle = "HILUM"
    """Called AE title for routine studies; also the calling one when Hilum sends."""
    stat_ae_title: AETitle = "HILUM_STAT"
    """Called AE title for urgent studies, which go first."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 means every network of this machine."""
    port: Port = 11112
    """Port to listen on."""
    allow_unsecured: bool = False
    """Listen beyond this machine without TLS, on a network that is safe by other means."""
    senders: tuple[Sender, ...] = ()
    """Peers that may associate, such as [{ ae_title = "CT1", addresses = ["10.0.0.0/8"] }]; empty: all."""
    any_called_ae_title: bool = False
    """Also accept any other called AE title; such studies are routine."""
    maximum_associations: Annotated[int, Field(ge=1)] = 64
    """Associations at the same time; more are refused until one ends."""
    maximum_pdu_bytes: Annotated[int, Field(ge=4096, le=16 * 2**20)] = 2**20
    """Longest protocol data unit that a sender may use."""
    maximum_object_bytes: Annotated[int, Field(ge=2**20)] = 4 * 2**30
    """Largest data set that Hilum stores."""
    quiet_seconds: Seconds = 30.0
    """A study counts as complete when nothing of it has arrived for this long and no open association carries it."""
    association_idle_seconds: Seconds = 60.0
    """An open association that has brought nothing for this long no longer keeps its studies incomplete."""
    network_timeout_seconds: Seconds = 60.0
    """Hilum disconnects a peer that is silent for this long, or takes longer for one PDU or for 16 KiB of a message."""

    @model_validator(mode="after")
    def tell_stat_from_routine(self) -> Self:
        """Require different AE titles, because the called one decides between the two queues."""
        if self.ae_title == self.stat_ae_title:
            raise ValueError(f"ae_title and stat_ae_title must differ, both are {self.ae_title}")
        return self


class TLSSettings(Section):
    """Hilum's certificate and key, and the authorities that sign its peers' certificates: PEM files, all or none.

    With them, the node accepts only TLS.
    """

    certificate: Path | None = None
    """Hilum's certificate, with its chain."""
    key: Path | None = None
    """The certificate's private key, readable by Hilum alone."""
    authorities: Path | None = None
    """The authorities that peers' certificates must come from."""

    @model_validator(mode="after")
    def all_or_none(self) -> Self:
        """Require all files or none, because both sides must present a certificate (PS3.15 B.12)."""
        missing = [name for name in type(self).model_fields if getattr(self, name) is None]
        if missing and len(missing) < len(type(self).model_fields):
            raise ValueError(f"TLS needs certificate, key and authorities; missing: {', '.join(missing)}")
        return self

    @property
    def enabled(self) -> bool:
        """Whether TLS is set: there is a certificate."""
        return self.certificate is not None


class AuditSettings(Section):
    """Where audit messages go: ``udp://HOST:PORT``, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``; empty means nowhere."""

    url: Annotated[str, StringConstraints(pattern=r"^(|(udp|tcp|tls)://([^/:@\s]+|\[[0-9a-f:]+\]):\d{1,5})$")] = ""
    """The receiver of audit messages."""

    @property
    def protocol(self) -> str:
        """The protocol in the URL: udp, tcp or tls; empty without a URL."""
        return self.url.partition(":")[0]

    @property
    def host(self) -> str:
        """Name or address of the receiver."""
        return self.url.partition("://")[2].rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The receiver's port."""
        return int(self.url.rpartition(":")[2])

    @model_validator(mode="after")
    def has_a_port(self) -> Self:
        """Reject a port to which no message could be sent."""
        if self.url and not 1 <= self.port <= 65535:
            raise ValueError("url must have a port of 1 to 65535")
        return self
