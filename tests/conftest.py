"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans beside the project; a test that needs them skips, saying so, where they are absent."""
    folder = Path(os.environ.get("HILUM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder}; set HILUM_TEST_DATA")
    return folder
