"""Which processes listen on a port of this machine, as far as the kernel shows them to this user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"
"""TCP_LISTEN in the kernel's tcp_states.h."""

OUTGOING_PORTS = PROC / "sys" / "net" / "ipv4" / "ip_local_port_range"


@dataclass(frozen=True)
class Listener:
    """A process that listens."""

    pid: int
    command: tuple[str, ...]

    @property
    def is_node(self) -> bool:
        """Whether the process is a node of Hilum."""
        names = {Path(word).name for word in self.command}
        return self.command[-1:] == ("node",) and not names.isdisjoint({"hilum", "dicom_node"})


def listeners(port: int) -> Iterator[Listener]:
    """Yield the processes that listen on a port; those of other users are shown only to root."""
    wanted = {f"socket:[{inode}]" for inode in listening_sockets(port)}
    for process in PROC.glob("[0-9]*") if wanted else ():
        with suppress(OSError):  # the process ended, or is another user's
            if any(str(file.readlink()) in wanted for file in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0")
                yield Listener(int(process.name), tuple(command.split("\0")))


def listening_sockets(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, at whatever address (proc(5), /proc/net/tcp)."""
    for name in ("tcp", "tcp6"):
        with suppress(OSError):  # without IPv6 there is no second file
            for line in (PROC / "net" / name).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield inode


def outgoing_ports() -> range:
    """Return the range of ports from which each outgoing connection gets one (ip_local_port_range in ip(7))."""
    lowest, highest = OUTGOING_PORTS.read_text().split()
    return range(int(lowest), int(highest) + 1)
