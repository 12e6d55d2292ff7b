import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from training import provenance
from training.provenance import OWN_LICENCE, PUBLIC_LICENCE, licence_of, source_version


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, which ``source_version`` takes for Hilum's own."""
    module = tmp_path / "training" / "provenance.py"
    module.parent.mkdir()
    module.write_text("first")
    for command in (["init"], ["add", "."], ["commit", "--message", "first"], ["tag", "v1"]):
        git(tmp_path, *command)
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def git(tree: Path, *command: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    run = subprocess.run(["git", "-C", tree, *identity, *command], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_the_source_is_the_whole_commit(tree: Path) -> None:
    assert source_version() == git(tree, "rev-parse", "HEAD")


def test_a_changed_tree_is_not_taken_for_its_commit(tree: Path) -> None:
    (tree / "training" / "provenance.py").write_text("later")
    assert source_version() == git(tree, "rev-parse", "HEAD") + "-dirty"


def test_the_version_stands_in_for_a_commit_that_git_does_not_tell(tree: Path) -> None:
    (tree / ".git" / "HEAD").write_text("damaged")
    assert source_version() == version("hilum")


def test_the_version_stands_in_where_there_is_no_git(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tree))
    assert source_version() == version("hilum")


def test_weights_of_a_sites_own_scans_are_the_sites() -> None:
    assert licence_of(("labels", "dicom"), None) == OWN_LICENCE


def test_fine_tuned_weights_keep_the_licence_of_what_they_began_from() -> None:
    assert licence_of(("labels",), "CC0-1.0") == "CC0-1.0"


def test_public_scans_among_a_sites_own_bring_their_licence() -> None:
    assert licence_of(("labels", "infection-slices"), None) == PUBLIC_LICENCE
