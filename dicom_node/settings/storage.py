"""Settings of the storage, the record's database, and the broker of the job queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from dicom_node.settings.section import Section


class StorageSettings(Section):
    """Where images, results and, if it is SQLite, the record are stored, and for how long.

    When less than ``refuse_free_gib`` is free, Hilum refuses new studies. If a study was answered and delivered,
    its files are removed ``keep_days`` after its last activity; without ``keep_days``, never.
    """

    folder: Path = Path("hilum-data")
    """Received images, results and, if it is SQLite, the record."""
    keep_days: Annotated[float, Field(gt=0)] | None = None
    """Remove an answered and delivered study's files this many days after its last activity; unset: never."""
    warn_free_gib: Annotated[float, Field(ge=0)] = 10.0
    """Warn when less is free on the disk."""
    refuse_free_gib: Annotated[float, Field(ge=0)] = 1.0
    """Refuse new studies when less is free."""

    @model_validator(mode="after")
    def warn_first(self) -> Self:
        """Require that the warning comes before the refusal."""
        if self.warn_free_gib < self.refuse_free_gib:
            raise ValueError("warn_free_gib must not be below refuse_free_gib")
        return self


class DatabaseSettings(Section):
    """The record; empty means SQLite in the storage folder."""

    url: str = ""
    """postgresql+psycopg://USER@HOST/NAME, if several hosts share the record."""


class BrokerSettings(Section):
    """The queue (Redis); empty means that ``hilum up`` runs its own."""

    url: str = ""
    """redis://HOST:6379/0, rediss://HOST:6379/0 or redis+socket:///FILE."""

    @field_validator("url")
    @classmethod
    def must_be_redis(cls, url: str) -> str:
        """Reject any other broker now; Celery would do so only with the first job."""
        if url and not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("expected redis://HOST:PORT/0, rediss://HOST:PORT/0 or redis+socket:///FILE")
        return url
