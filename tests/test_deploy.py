"""The virtual environment that the scripts of deploy/ make, with a pip that installs nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose pip only writes the last word of its command line into the file "installed"."""
    for name in ("deploy/environment", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\nfor last; do :; done\necho "$last" >> installed\n')
    pip.chmod(0o755)
    return tmp_path


def enter(checkout: Path, extra: str) -> str:
    command = ["bash", "-c", f"set -euo pipefail; . deploy/environment {extra}"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return done.stderr


def installed(checkout: Path) -> list[str]:
    return (checkout / "installed").read_text().split()


def test_what_is_installed_is_not_installed_again(checkout: Path) -> None:
    assert "0.8 GB" in enter(checkout, "worker")
    assert enter(checkout, "worker") == ""
    assert installed(checkout) == [".[worker]"]


def test_the_environment_of_the_tests_will_do_for_the_demo(checkout: Path) -> None:
    assert "over 2 GB" in enter(checkout, "test")
    assert enter(checkout, "worker") == ""
    assert enter(checkout, "test") == ""
    assert installed(checkout) == [".[test]"]


def test_the_environment_of_the_demo_will_not_do_for_the_tests(checkout: Path) -> None:
    enter(checkout, "worker")
    enter(checkout, "test")
    assert installed(checkout) == [".[worker]", ".[test]"]


@pytest.mark.parametrize("pinned", ["pyproject.toml", "constraints.txt"])
def test_other_pins_are_installed(checkout: Path, pinned: str) -> None:
    enter(checkout, "test")
    with (checkout / pinned).open("a") as file:
        file.write("# changed\n")
    enter(checkout, "worker")
    assert installed(checkout) == [".[test]", ".[worker]"]
