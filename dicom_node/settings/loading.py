"""Settings from ``hilum.toml``, the environment (``HILUM_*``) and secret files."""

from __future__ import annotations

import os
from typing import Any, Self

from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from dicom_node.errors import SettingsError
from dicom_node.settings.analysis import JobSettings, ReportSettings, SelectionSettings, WorkerSettings
from dicom_node.settings.names import (
    find_file,
    read_secrets,
    setting_names,
    unknown_keys,
    unknown_secrets,
    unknown_variables,
)
from dicom_node.settings.network import AuditSettings, NodeSettings, TLSSettings
from dicom_node.settings.peers import (
    AnyDestination,
    DeliverySettings,
    Destination,
    NotificationSettings,
    PriorSettings,
    WebDestination,
)
from dicom_node.settings.storage import BrokerSettings, DatabaseSettings, StorageSettings


class SecretFiles(EnvSettingsSource):
    """The settings in secret files, which are parsed like environment variables."""

    def __call__(self) -> dict[str, Any]:
        """Return the settings in the secret files; an error names their folder, not the environment."""
        try:
            return super().__call__()
        except SourceError as error:
            raise SourceError(f"HILUM_SECRETS_DIR: {os.environ['HILUM_SECRETS_DIR']}: {error}") from None


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
    destinations: tuple[AnyDestination, ...] = ()
    worker: WorkerSettings = WorkerSettings()
    report: ReportSettings = ReportSettings()
    priors: PriorSettings = PriorSettings()
    notification: NotificationSettings = NotificationSettings()

    @field_validator("destinations")
    @classmethod
    def name_each_once(cls, destinations: tuple[AnyDestination, ...]) -> tuple[AnyDestination, ...]:
        """Require different names, because the record identifies a destination by its name."""
        names = [destination.name for destination in destinations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every destination needs its own name; used twice: {', '.join(twice)}")
        return destinations

    @model_validator(mode="after")
    def certificates_for_peers(self) -> Self:
        """Require Hilum's certificate if it is presented to a destination or to the audit receiver."""
        shown = [d.client_certificate if isinstance(d, WebDestination) else d.tls for d in self.destinations]
        if any(shown) and not self.tls.enabled:
            raise ValueError(
                "a destination with tls or client_certificate = true needs tls.certificate, tls.key and tls.authorities"
            )
        if self.audit.protocol == "tls" and not self.tls.enabled:
            raise ValueError("audit.url with tls:// needs tls.certificate, tls.key and tls.authorities")
        return self

    @model_validator(mode="after")
    def name_a_known_source(self) -> Self:
        """Require that the source of priors is a destination with an AE title."""
        if self.priors.source and self.priors_source is None:
            known = ", ".join(d.name for d in self.destinations if isinstance(d, Destination)) or "none"
            raise ValueError(
                f"priors.source must be the name of a destination with an AE title ({known}), got {self.priors.source}"
            )
        return self

    @property
    def priors_source(self) -> Destination | None:
        """The PACS to ask for earlier reports and images, or None."""
        named = (d for d in self.destinations if d.name == self.priors.source)
        return next((d for d in named if isinstance(d, Destination)), None)

    @property
    def database_url(self) -> str:
        """The record's URL, with the default filled in."""
        if self.database.url:
            return self.database.url
        from sqlalchemy import URL  # imported here: not every command that reads settings needs it

        file = self.storage.folder.absolute() / "record.sqlite3"
        return URL.create("sqlite", database=str(file)).render_as_string()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let secret files take precedence over the environment, and the environment over the settings file."""
        # pydantic-settings' own source ignores links that lead out of the folder, and a folder that it may not list.
        secrets = SecretFiles(settings_cls)
        secrets.env_vars = read_secrets()
        return init_settings, secrets, env_settings, TomlConfigSettingsSource(settings_cls, find_file())


def load_settings() -> Settings:
    """Return the settings of this process.

    Raises
    ------
    SettingsError
        A setting is unknown or malformed, or a file cannot be read. The message names each unknown setting with the
        nearest known name, or each malformed one.
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
