"""``hilum settings``: every setting with its description and its value, as a hilum.toml."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dicom_node.settings.loading import Settings, load_settings
from dicom_node.settings.names import sections_in
from dicom_node.settings.peers import NotificationSettings

WIDTH = 100

PASSWORD = re.compile(r"(://[^/:@]*:).*@")
"""The password of a URL, with what stands around it; it ends at the last @, because a password may contain others."""

AFTER_HOST = re.compile(r"(?<=[^/:])[/?#].+")
"""What follows the host in a URL."""


def run_settings(arguments: argparse.Namespace) -> int:
    """Print the settings in force, or the defaults."""
    settings = Settings.model_construct() if arguments.defaults else load_settings()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # TOML is UTF-8, whatever the locale
    print("\n".join(file_lines(settings)))
    return 0


def file_lines(settings: Settings) -> Iterator[str]:
    """Yield the lines of a settings file with all of these settings."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from section_lines(f"[{name}]", type(value), value)
            continue
        for item in value:
            yield from section_lines(f"[[{name}]]", type(item), item)
        for section in () if value else sections_in(field.annotation):
            yield from (f"# {line}".replace("# # ", "# ") for line in section_lines(f"[[{name}]]", section) if line)
            yield ""


def section_lines(title: str, section: type[BaseModel], values: BaseModel | None = None) -> Iterator[str]:
    """Yield a section: its description, and each setting with its description and its value, if it has one."""
    yield from comment(section.__doc__ or "")
    yield title
    for name, field in section.model_fields.items():
        yield from comment(f"{field.description} {choices(field.annotation)}")
        value = getattr(values, name) if values else field.get_default()
        if section is NotificationSettings and name == "url":
            value = AFTER_HOST.sub("/***", value)  # a webhook's path may be its key
        yield f"# {name} =" if value in (None, PydanticUndefined) else f"{name} = {toml(name, value)}"
    yield ""


def choices(annotation: object) -> str:
    """Return which values a setting may take, if its type lists them; else an empty string."""
    return f"One of: {', '.join(get_args(annotation))}." if get_origin(annotation) is Literal else ""


def comment(text: str) -> Iterator[str]:
    """Yield a text as comment lines."""
    for paragraph in text.replace("``", "").split("\n\n"):
        words = " ".join(paragraph.split())
        yield from textwrap.wrap(words, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def toml(name: str, value: Any) -> str:
    """Return a value in TOML; the password of a URL and its query, which may contain keys, are masked."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:_}" if value >= 100_000 else str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(toml(name, item) for item in value)}]"
    if isinstance(value, BaseModel):
        return "{ " + ", ".join(f"{k} = {toml(k, v)}" for k, v in value) + " }"
    text = str(value)
    if name == "url" and "@" in text:
        text = PASSWORD.sub(r"\1***@", text)
    if name == "url" and "?" in text:
        text = f"{text.partition('?')[0]}?***"
    return json.dumps(text, ensure_ascii=False)
