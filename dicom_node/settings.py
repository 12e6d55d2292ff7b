"""The one settings object: from ``hilum.toml``, the environment (``HILUM_*``) and secret files.

Made once at each entry point and passed down. An environment variable names a setting by section and key,
``HILUM_NODE__PORT=11112``; a secret is a file of the same name, in lower case, in ``HILUM_SECRETS_DIR``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from dicom_node.errors import SettingsError

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f]+$")
]
"""PS3.5 table 6.2-1: at most 16 characters, no backslash, no control characters."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]

DEFAULT_FILES = (Path("hilum.toml"), Path("/etc/hilum/hilum.toml"))
NOT_SETTINGS = {"HILUM_CONFIG", "HILUM_SECRETS_DIR"}


class Section(BaseModel):
    """A section of the settings; an unknown key in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sender(Section):
    """A peer that may associate: by its AE title, and from these networks (CIDR) where any are named."""

    ae_title: AETitle
    addresses: tuple[IPvAnyNetwork, ...] = ()


class NodeSettings(Section):
    """Who Hilum is on the network, who may come in, and when a study counts as whole.

    Without ``senders`` every calling AE title may. The called one must be Hilum's: a mistyped STAT title would
    otherwise be routine.
    """

    ae_title: AETitle = "HILUM"
    stat_ae_title: AETitle = "HILUM_STAT"
    host: str = "127.0.0.1"
    port: Port = 11112
    allow_unsecured: bool = False
    senders: tuple[Sender, ...] = ()
    any_called_ae_title: bool = False
    maximum_associations: Annotated[int, Field(ge=1)] = 64
    maximum_pdu_bytes: Annotated[int, Field(ge=4096, le=16 * 2**20)] = 2**20
    maximum_object_bytes: Annotated[int, Field(ge=2**20)] = 4 * 2**30
    quiet_seconds: Seconds = 30.0
    association_idle_seconds: Seconds = 60.0
    network_timeout_seconds: Seconds = 60.0

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
    key: Path | None = None
    authorities: Path | None = None

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
    keep_days: Annotated[float, Field(gt=0)] | None = None
    warn_free_gib: Annotated[float, Field(ge=0)] = 10.0
    refuse_free_gib: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def warn_first(self) -> Self:
        """A warning after the refusal is none."""
        if self.warn_free_gib < self.refuse_free_gib:
            raise ValueError("warn_free_gib must not be below refuse_free_gib")
        return self


class DatabaseSettings(Section):
    """The record; empty means SQLite in the storage folder."""

    url: str = ""


class BrokerSettings(Section):
    """The doorbell; empty means that ``hilum up`` runs a Redis of its own."""

    url: str = ""

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
    minimum_extent_mm: Annotated[float, Field(ge=0)] = 100.0
    maximum_thickness_mm: Annotated[float, Field(gt=0)] = 10.0
    preferred_thickness_mm: Annotated[float, Field(gt=0)] = 2.0


class JobSettings(Section):
    """How long a worker may be silent, and how often a job is tried."""

    lease_seconds: Seconds = 60.0
    sweep_seconds: Seconds = 15.0
    maximum_attempts: Annotated[int, Field(ge=1)] = 3
    retry_seconds: Seconds = 30.0


class DeliverySettings(Section):
    """How results are tried again: the pause doubles from ``first_retry_seconds`` to the ceiling."""

    first_retry_seconds: Seconds = 10.0
    longest_retry_seconds: Seconds = 3600.0
    network_timeout_seconds: Seconds = 60.0


class Destination(Section):
    """A PACS that results are sent to."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    ae_title: AETitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    storage_commitment: bool = False
    tls: bool = False


class WorkerSettings(Section):
    """The analysis on this machine; 0 threads means as many as there are cores.

    With ``method = "network"`` a trained network finds lungs and infection: the one that Hilum ships, or that of
    ``weights``, a safetensors file with its card beside it.
    """

    threads: Annotated[int, Field(ge=0)] = 0
    method: Literal["thresholds", "network"] = "thresholds"
    weights: Path | None = None


class ReportSettings(Section):
    """What the answers look like.

    OHIF shows a report titled DCM 126000 as a blank page. With ``rejection_note`` an answer that replaces an
    earlier one withdraws it (IHE IOCM), for archives that then hide it.
    """

    title: Literal["LN 18748-4", "DCM 126000"] = "LN 18748-4"
    rejection_note: bool = False


class PriorSettings(Section):
    """Where earlier reports on a patient come from: the record, and the destination that is named here.

    It must answer C-FIND and C-MOVE (Study Root), and know ``node.ae_title`` as a destination of its own.
    """

    source: str = ""
    timeout_seconds: Seconds = 15.0


class Settings(BaseSettings):
    """All settings of Hilum."""

    model_config = SettingsConfigDict(
        env_prefix="HILUM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    node: NodeSettings = NodeSettings()
    tls: TLSSettings = TLSSettings()
    audit: AuditSettings = AuditSettings()
    storage: StorageSettings = StorageSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    selection: SelectionSettings = SelectionSettings()
    jobs: JobSettings = JobSettings()
    delivery: DeliverySettings = DeliverySettings()
    destinations: tuple[Destination, ...] = ()
    worker: WorkerSettings = WorkerSettings()
    report: ReportSettings = ReportSettings()
    priors: PriorSettings = PriorSettings()

    @field_validator("destinations")
    @classmethod
    def name_each_once(cls, destinations: tuple[Destination, ...]) -> tuple[Destination, ...]:
        """The record knows a destination by its name."""
        names = [destination.name for destination in destinations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every destination needs a name of its own; used twice: {', '.join(twice)}")
        return destinations

    @model_validator(mode="after")
    def certificates_for_peers(self) -> Self:
        """They ask for Hilum's."""
        if any(destination.tls for destination in self.destinations) and not self.tls.enabled:
            raise ValueError("a destination with tls = true needs tls.certificate, tls.key and tls.authorities")
        if self.audit.protocol == "tls" and not self.tls.enabled:
            raise ValueError("audit.url with tls:// needs tls.certificate, tls.key and tls.authorities")
        return self

    @model_validator(mode="after")
    def name_a_known_source(self) -> Self:
        """Priors come from a PACS that stands among the destinations."""
        if self.priors.source and self.priors_source is None:
            known = ", ".join(destination.name for destination in self.destinations) or "none"
            raise ValueError(f"priors.source must be the name of a destination ({known}), got {self.priors.source}")
        return self

    @property
    def priors_source(self) -> Destination | None:
        """The PACS that is asked for earlier reports."""
        return next((d for d in self.destinations if d.name == self.priors.source), None)

    @property
    def database_url(self) -> str:
        """The record's URL, with the default filled in."""
        return self.database.url or f"sqlite:///{self.storage.folder.absolute() / 'record.sqlite3'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secret files before the environment, and the environment before the file."""
        sources = [init_settings]
        if secrets := os.environ.get("HILUM_SECRETS_DIR"):
            sources.append(
                NestedSecretsSettingsSource(
                    file_secret_settings,
                    secrets_dir=secrets,
                    secrets_dir_missing="error",
                    secrets_prefix="hilum_",
                    secrets_nested_delimiter="__",
                )
            )
        return (*sources, env_settings, TomlConfigSettingsSource(settings_cls, find_file()))


def find_file() -> Path | None:
    """Return the settings file in use: ``HILUM_CONFIG``, else ``hilum.toml`` here or in /etc/hilum."""
    if named := os.environ.get("HILUM_CONFIG"):
        return Path(named)
    return next((path for path in DEFAULT_FILES if path.is_file()), None)


def load_settings() -> Settings:
    """Return the settings of this process.

    Raises
    ------
    SettingsError
        Names every unknown or malformed setting, with the nearest known name.
    """
    known = set(setting_names(Settings))
    file = find_file()
    problems = [*unknown_variables(known), *unknown_secrets(known), *unknown_keys(file, known)]
    if problems:
        raise SettingsError("unknown-setting", "; ".join(problems))
    try:
        return Settings()
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError("malformed-setting", "; ".join(lines)) from None
    except SourceError as error:
        raise SettingsError("malformed-setting", str(error)) from None


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every settable name, dotted: ``node.port``; those in an array of tables as ``destinations[].name``."""
    for name, field in model.model_fields.items():
        if is_model(field.annotation):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
            for item in filter(is_model, get_args(field.annotation)):
                yield from setting_names(item, f"{prefix}{name}[].")


def is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether a setting is a section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def unknown_variables(known: set[str]) -> Iterator[str]:
    """Yield a complaint for each ``HILUM_*`` variable that sets nothing (pydantic ignores them)."""
    variables = set(variable_names(known))
    for variable in sorted(os.environ):
        name = variable.upper()
        if name.startswith("HILUM_") and name not in NOT_SETTINGS | variables and not name.startswith("HILUM_TEST_"):
            yield complaint(variable, variables)


def variable_names(known: set[str]) -> Iterator[str]:
    """Yield the environment variable of each name; what stands in an array has none."""
    return (f"HILUM_{name.upper().replace('.', '__')}" for name in known if "[]" not in name)


def unknown_secrets(known: set[str]) -> Iterator[str]:
    """Yield a complaint for each ``hilum_*`` secret file that sets nothing."""
    secrets = {name.lower() for name in variable_names(known)}
    if folder := os.environ.get("HILUM_SECRETS_DIR"):
        for path in sorted(Path(folder).glob("hilum_*")):
            if path.name not in secrets:
                yield complaint(path.name, secrets)


def unknown_keys(file: Path | None, known: set[str]) -> Iterator[str]:
    """Yield a complaint for each key of the file that sets nothing."""
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            "settings-unreadable", f"{file}: {error.strerror}; mend HILUM_CONFIG or the file's permissions"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("settings-not-toml", f"{file} is not TOML: {error}") from error
    for name in dotted(content):
        if name not in known:
            yield complaint(name, known)


def dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all leaves of a TOML document, named as by `setting_names`."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
            continue
        yield f"{prefix}{key}"
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict):
                yield from dotted(item, f"{prefix}{key}[].")


def complaint(name: str, known: set[str]) -> str:
    """Say that a name is unknown, and which one may be meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting {name}; the nearest known one is {near[0]}" if near else f"unknown setting {name}"
