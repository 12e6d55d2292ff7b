"""Finding out who listens at a port."""

from __future__ import annotations

import os
import socket

import pytest

from dicom_node.port import Listener, listeners
from tests.services import free_port


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_who_listens_is_found(family: socket.AddressFamily) -> None:
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listener:
        (found,) = listeners(listener.getsockname()[1])
    assert found.pid == os.getpid()
    assert not found.is_node


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        assert list(listeners(client.getsockname()[1])) == []
        client.close()


def test_nobody_listens_at_a_free_port() -> None:
    assert list(listeners(free_port())) == []


@pytest.mark.parametrize(
    ("command", "is_node"),
    [
        ("/opt/hilum/bin/python /opt/hilum/bin/hilum node", True),
        ("python -m dicom_node node", True),
        ("python -m dicom_node deliver", False),
        ("/usr/bin/node", False),
        ("/srv/hilum/other node", False),
        ("", False),
    ],
)
def test_a_node_is_known_by_its_command(command: str, is_node: bool) -> None:
    assert Listener(1, tuple(command.split(" "))).is_node == is_node
