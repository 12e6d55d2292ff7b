"""Packages from npm: viewers and readers that Python has no equivalent of."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.services import missing

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "npm"


def npm_package(name: str, version: str) -> Path:
    """Return the folder of a package that needs no others; it is downloaded only once."""
    folder = CACHE / f"{name.replace('/', '-')}-{version}"
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        # Unpacked in another folder and then renamed: an interrupted or a concurrent run leaves no incomplete package.
        with tempfile.TemporaryDirectory(dir=CACHE) as aside:
            (archive,) = _pack(f"{name}@{version}", Path(aside))
            with tarfile.open(archive) as tar:
                tar.extractall(aside, filter="data")
            if not folder.is_dir():
                Path(aside, "package").rename(folder)
    return folder


def _pack(package: str, folder: Path) -> list[Path]:
    """Download a package's archive, which npm verifies with the registry's hash; return the archive's path."""
    npm = shutil.which("npm") or missing("npm")
    command = [npm, "pack", "--silent", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode != 0:
        missing(f"{package} from npm")
    return list(folder.glob("*.tgz"))


def node(script: Path, *arguments: str | os.PathLike[str]) -> str:
    """Run a script in Node.js and return what it printed."""
    binary = shutil.which("node") or missing("Node.js")
    done = subprocess.run([binary, script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
