"""The names of settings, and error messages for names that are no setting."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel

from dicom_node.errors import SettingsError

DEFAULT_FILES = (Path("hilum.toml"), Path("/etc/hilum/hilum.toml"))
NOT_SETTINGS = {"HILUM_CONFIG", "HILUM_SECRETS_DIR"}


def find_file() -> Path | None:
    """Return the settings file: ``HILUM_CONFIG``, else ``hilum.toml`` in this folder or in /etc/hilum, else None."""
    if named := os.environ.get("HILUM_CONFIG"):
        return Path(named)
    return next((path for path in DEFAULT_FILES if is_file(path)), None)


def is_file(path: Path) -> bool:
    """Whether a file exists; an error if that cannot be seen: without the file, Hilum would run with other settings."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingsError(
            "settings-unreadable",
            f"{path.absolute().parent} cannot be searched for {path.name}: {error.strerror}; "
            "fix its permissions, start Hilum in another folder, or name the file with --config",
        ) from error


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting: ``node.port``; in an array of tables, ``destinations[].name``."""
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
            for item in sections_in(field.annotation):
                yield from setting_names(item, f"{prefix}{name}[].")


def is_section(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether the type of a setting is a section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def sections_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the types of section that an array may hold: one or several."""
    for part in get_args(annotation):
        if is_section(part):
            yield part
        else:
            yield from sections_in(part)


def unknown_variables(known: set[str]) -> Iterator[str]:
    """Yield an error message for each ``HILUM_*`` variable that is no setting; pydantic ignores these."""
    variables = set(variable_names(known))
    for variable in sorted(os.environ):
        name = variable.upper()
        if name.startswith("HILUM_") and name not in NOT_SETTINGS | variables and not name.startswith("HILUM_TEST_"):
            yield complaint(variable, variables)


def variable_names(known: set[str]) -> Iterator[str]:
    """Yield the environment variable of each setting; a setting in an array of tables has none."""
    return (f"HILUM_{name.upper().replace('.', '__')}" for name in known if "[]" not in name)


def unknown_secrets(known: set[str]) -> Iterator[str]:
    """Yield an error message for each ``hilum_*`` secret file that is no setting."""
    secrets = {name.lower() for name in variable_names(known)}
    for path in secret_files():
        if path.name.lower() not in secrets:
            yield complaint(path.name, secrets)


def secret_files() -> list[Path]:
    """Return the ``hilum_*`` files of ``HILUM_SECRETS_DIR``, including links, which Kubernetes and systemd make."""
    folder = os.environ.get("HILUM_SECRETS_DIR")
    if not folder:
        return []
    try:
        found = sorted(Path(folder).expanduser().iterdir())
    except OSError as error:
        raise SettingsError(
            "secrets-unreadable", f"HILUM_SECRETS_DIR: {folder} cannot be listed: {error.strerror}"
        ) from error
    return [path for path in found if path.name.lower().startswith("hilum_")]


def read_secrets() -> dict[str, str]:
    """Return the content of all secret files; an error if one is unreadable: Hilum would run with other settings."""
    secrets = {}
    for path in secret_files():
        try:
            secrets[path.name.lower()] = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise SettingsError(
                "secrets-unreadable", f"the secret {path} cannot be read ({type(error).__name__})"
            ) from error
    return secrets


def unknown_keys(file: Path | None, known: set[str]) -> Iterator[str]:
    """Yield an error message for each key in the file that is no setting."""
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            "settings-unreadable", f"{file}: {error.strerror}; fix HILUM_CONFIG or the file's permissions"
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
    """Return the error message for an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting {name}; the nearest known one is {near[0]}" if near else f"unknown setting {name}"
