"""Fixtures for the node's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.dicom_node.recording import Clock, opened


@pytest.fixture
def record(record_url: str) -> Iterator[Engine]:
    """The record, in SQLite and in PostgreSQL."""
    with opened(record_url) as engine:
        yield engine


@pytest.fixture
def sqlite_record(sqlite_url: str) -> Iterator[Engine]:
    """The record in SQLite."""
    with opened(sqlite_url) as engine:
        yield engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The record's clock, which the test sets."""
    return Clock(monkeypatch)
