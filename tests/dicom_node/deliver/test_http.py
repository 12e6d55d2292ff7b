"""Connections to HTTP servers."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest

from dicom_node.deliver.http import connected
from dicom_node.errors import PassingFailure


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://[fd00::ab]/dicom-web", ("fd00::ab", 443)),
        ("http://[fd00::ab]/dicom-web", ("fd00::ab", 80)),
        ("https://[fd00::1]/dicom-web", ("fd00::1", 443)),
        ("https://[fd00::ab]:8443/dicom-web", ("fd00::ab", 8443)),
        ("https://archive.example", ("archive.example", 443)),
    ],
)
def test_a_url_without_a_port_leads_to_that_of_its_scheme(
    monkeypatch: pytest.MonkeyPatch, url: str, place: tuple[str, int]
) -> None:
    places: list[tuple[str, int]] = []

    def connect(connection: HTTPConnection) -> None:
        places.append((connection.host, connection.port))
        raise ConnectionRefusedError

    monkeypatch.setattr(HTTPConnection, "connect", connect)
    with pytest.raises(PassingFailure, match="cannot be reached"), connected(url, 1):
        pass
    assert places == [place]
