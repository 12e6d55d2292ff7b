"""``hilum check``: tests whether everything that Hilum needs is there and works."""

from __future__ import annotations

import argparse
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import redis
from sqlalchemy import func, make_url, select

from dicom_node.deliver.destination import verify
from dicom_node.deliver.outbox import Outbox
from dicom_node.deliver.webhook import connected, read_key
from dicom_node.dispatch.retrieve import FIND, GET, MOVE, NAMES, associated
from dicom_node.embedded import find_redis
from dicom_node.errors import HilumError, SettingsError
from dicom_node.files import Files
from dicom_node.log import configure_logging
from dicom_node.port import listeners, outgoing_ports
from dicom_node.receive.scp import listen
from dicom_node.record.database import open_database, reading
from dicom_node.record.schema import studies
from dicom_node.record.storage import require_mounted
from dicom_node.security.access import is_loopback, require_security
from dicom_node.security.tls import server_context
from dicom_node.settings import Destination, NodeSettings, Settings, WebDestination, find_file, load_settings
from dicom_node.settings.names import secret_files

URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


@dataclass(frozen=True)
class Check:
    """One test and its result."""

    name: str
    passed: bool
    message: str
    warns: bool = False
    """It works, but somebody should look at it."""


def run_check(arguments: argparse.Namespace) -> int:
    """Run and print all tests; return 1 if any failed."""
    configure_logging("check")
    done = list(checks())
    if arguments.json:
        print(json.dumps([asdict(check) for check in done], indent=2))
    else:
        width = max(len(check.name) for check in done)
        for check in done:
            mark = "FAIL" if not check.passed else "warn" if check.warns else "ok"
            print(f"{mark:<4}  {check.name:<{width}}  {check.message}")
    return 0 if all(check.passed for check in done) else 1


def checks() -> Iterator[Check]:
    """Run one test after another; if the settings cannot be loaded, nothing else can be tested."""
    try:
        settings = load_settings()
    except HilumError as error:
        yield Check("settings", False, error.message)
        return
    yield Check("settings", True, str(find_file() or "defaults and environment"))
    yield check_access(settings)
    yield check_port(settings.node)
    yield check_permissions(settings)
    yield check_disk(settings)
    yield check_database(settings)
    yield check_broker(settings)
    if settings.notification.url:
        yield check_webhook(settings)
    if not settings.destinations:
        yield Check("PACS", False, "no [[destinations]]: results would stay here; name at least one PACS")
    for destination in settings.destinations:
        name = f"PACS {destination.name}"
        try:
            yield Check(name, True, verify(destination, settings))
        except HilumError as error:
            yield Check(name, False, error.message)
    if settings.priors_source:
        yield check_priors(settings.priors_source, settings)


def check_access(settings: Settings) -> Check:
    """Test who may connect to the node, and read the certificates."""
    node = settings.node
    try:
        require_security(node, tls=settings.tls.enabled)
        server_context(settings.tls)
    except HilumError as error:
        return Check("access", False, error.message)
    if settings.tls.enabled:
        return Check("access", True, "TLS, for peers with a certificate from your authorities")
    if is_loopback(node.host):
        return Check("access", True, f"only this machine ({node.host})")
    if not node.senders:
        message = "no [[node.senders]] and no TLS: anyone who reaches this machine may send studies"
        return Check("access", True, message, warns=True)
    return Check("access", True, f"unencrypted; {', '.join(sorted({s.ae_title for s in node.senders}))} may send")


def check_port(node: NodeSettings) -> Check:
    """Listen for a moment; if another process holds the port, name it, unless it is the node itself."""
    try:
        listen(node).close()
    except SettingsError as error:
        found = list(listeners(node.port))
        if any(one.is_node for one in found):
            return Check("port", True, f"hilum node already listens at port {node.port}")
        held = "; ".join(f"{Path(one.command[0]).name} (process {one.pid}) listens there" for one in found)
        return Check("port", False, f"{error.message}; {held}" if held else error.message)
    message = f"the node can listen on {node.host}, port {node.port}"
    if node.port in (taken := outgoing_ports()):
        message += f", unless an outgoing connection has it: those get {taken[0]} to {taken[-1]}"
        return Check("port", True, message, warns=True)
    return Check("port", True, message)


def check_permissions(settings: Settings) -> Check:
    """Look for files and folders that other users of the machine can read or change, and should not."""
    loose = [f"{path} (mode {mode_of(path):o})" for path in loose_paths(settings)]
    if loose:
        return Check("permissions", True, f"open to other users: {', '.join(loose)}; fix it with chmod go=", warns=True)
    return Check("permissions", True, "storage, record and secrets are closed to other users")


def loose_paths(settings: Settings) -> Iterator[Path]:
    """Yield the paths that are open to other users; a closed folder also closes everything in it."""
    if file := find_file():
        has_password = URL_WITH_PASSWORD.search(file.read_text(encoding="utf-8"))
        if mode_of(file) & (0o077 if has_password else 0o022):
            yield file
    private = [settings.storage.folder, *secret_files()]
    credentials = [d.credentials for d in settings.destinations if isinstance(d, WebDestination)]
    private += [path for path in (settings.tls.key, settings.notification.secret, *credentials) if path]
    is_file = settings.database_url.partition(":///")[0] in ("sqlite", "sqlite+pysqlite")
    if is_file and (record := make_url(settings.database_url).database):
        private.append(Path(record))
    yield from (path for path in private if mode_of(path) & 0o077)


def mode_of(path: Path) -> int:
    """Return the permission bits of a file; 0 if it does not exist."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def check_disk(settings: Settings) -> Check:
    """Write a file and look how much space is left; if there is no storage folder yet, in the closest one above it.

    Only a node creates the storage folder: the path may lie in a mount point where nothing is mounted now.
    """
    folder = wanted = settings.storage.folder.absolute()
    try:
        folder = closest_to(wanted)
        files = Files(folder)
        files.try_writing()
        free = files.free_bytes()
    except OSError as error:
        return Check("storage", False, f"{folder} cannot be written: {error.strerror}")
    later = "" if folder == wanted else f", where hilum node will create {wanted}"
    return Check(
        "storage", free >= settings.storage.warn_free_gib * 2**30, f"{free / 2**30:.0f} GiB free in {folder}{later}"
    )


def closest_to(folder: Path) -> Path:
    """Return a folder if it exists, or else the closest one above it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_database(settings: Settings) -> Check:
    """Open the record; look whether the storage holds its images, and for results that nobody sends."""
    try:
        engine = open_database(settings.database_url, settings.storage.folder, must_exist=True)
    except HilumError as error:
        return check_new_record(settings) if error.code == "no-record" else Check("record", False, error.message)
    with reading(engine) as connection:
        count = connection.scalar(select(func.count()).select_from(studies))
    try:
        require_mounted(engine, settings.storage.folder)
    except HilumError as error:
        return Check("record", False, error.message)
    stranded = Outbox(engine, settings.delivery).stranded([one.name for one in settings.destinations])
    if stranded:
        waiting = "; ".join(f"{number} results wait for {name!r}" for name, number in stranded.items())
        message = f"{waiting}, not in [[destinations]]: add it again, or run `hilum redirect FROM TO`"
        return Check("record", False, message)
    return Check("record", True, f"{engine.dialect.name}, {count} studies")


def check_new_record(settings: Settings) -> Check:
    """Report that there is no record yet; if it will be SQLite's, test that its folder, or one above, can be written.

    Only a node creates it, for the same reason as the storage folder, and so that it belongs to the node's user.
    """
    url = make_url(settings.database_url)
    if url.get_backend_name() == "postgresql":
        return Check("record", True, "postgresql, no record yet: hilum node will create it")
    file = Path(url.database or "").absolute()
    try:
        folder = closest_to(file.parent)
        Files(folder).try_writing()
    except OSError as error:
        return Check("record", False, f"{folder} cannot be written: {error.strerror}")
    return Check("record", True, f"sqlite, no record yet: hilum node will create {file}")


def check_webhook(settings: Settings) -> Check:
    """Read the key and connect, with TLS for https. Nothing is sent, because there is no study to notify of."""
    try:
        read_key(settings.notification.secret)
        with connected(settings.notification):
            pass
    except HilumError as error:
        return Check("webhook", False, error.message)
    return Check("webhook", True, f"{settings.notification.host} can be reached; nothing was sent to it")


def check_priors(source: Destination, settings: Settings) -> Check:
    """Open an association for each service by which priors are fetched; no query is sent."""
    services = (FIND, MOVE, GET) if settings.priors.analyze else (FIND, MOVE)
    try:
        for service in services:
            with associated(source, settings, service):
                pass
    except HilumError as error:
        return Check("priors", False, error.message)
    return Check("priors", True, f"{source.name} offers {', '.join(NAMES[service] for service in services)}")


def check_broker(settings: Settings) -> Check:
    """Ping Redis."""
    if not settings.broker.url:
        try:
            return Check("broker", True, f"none set: `hilum up` runs its own Redis ({find_redis()})")
        except SettingsError as error:
            return Check("broker", False, error.message)
    try:
        redis.Redis.from_url(settings.broker.url.replace("redis+socket", "unix"), socket_timeout=5).ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return Check("broker", False, f"Redis does not answer ({type(error).__name__}); check broker.url")
    return Check("broker", True, "Redis answers")
