"""Claim a run's folder: no other run continues in it, and no two processes work in it at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_node.errors import SettingsError
from training import datasets
from training.experiment import Experiment
from training.files import LOCK, read_json, write_json
from training.fit.pretrained import open_pretrained
from training.prepare.prepared import describe


def finished_splits(run: Path) -> dict[int, Path]:
    """Return the folders of a run's finished splits by number; a copy such as ``split-0.bak`` is not one of them."""
    found = ((path.parent.name.removeprefix("split-"), path.parent) for path in run.glob("split-*/result.json"))
    return dict(sorted((int(number), folder) for number, folder in found if number.isdecimal()))


class Claim:
    """What identifies a run, to be compared with what its folder was begun with (``trial.json``).

    Parameters
    ----------
    pretrained : Path or None
        The weights that training begins with.

    Raises
    ------
    SettingsError
        When the pretrained weights cannot be opened, or are of a short form, and the run is not.
    """

    def __init__(
        self, experiment: Experiment, data: Path, folder: Path, pretrained: Path | None, *, short: bool, seed: int
    ) -> None:
        self.data = data
        self.folder = folder
        self.pretrained = pretrained
        self.content = {
            "experiment": experiment.name,
            "short": short,
            "seed": seed,
            "sets": list(experiment.data),
            "files": datasets.fingerprint(experiment.data, data),
            "recipe": fingerprint(experiment),
            "split": describe(experiment.split),
            "pretrained": _weights_of(pretrained, short=short) if pretrained is not None else "",
        }

    @property
    def begun_as(self) -> dict[str, Any]:
        """The claim that the folder was begun with; a key that an earlier version did not write counts as unchanged."""
        path = self.folder / "trial.json"
        return self.content | read_json(path) if path.exists() else self.content

    @property
    def is_trained(self) -> bool:
        """Whether any split in the folder has begun to learn; until then the run's data may change."""
        return any(self.folder.glob("split-*/state.pt")) or any(self.folder.glob("split-*/result.json"))

    @property
    def has_its_files(self) -> bool:
        """Whether the folder was begun, and the site's own files have not changed since."""
        return (self.folder / "trial.json").exists() and bool(self.begun_as["files"] == self.content["files"])

    def write(self) -> None:
        """Claim the folder."""
        write_json(self.folder / "trial.json", self.begun_as if self.is_trained else self.content)

    def lock(self) -> None:
        """Keep other processes out of the folder until this claim is deleted or its process ends.

        Errors are those of ``lock``.
        """
        weakref.finalize(self, os.close, lock(self.folder))

    def refuse_another_run(self) -> None:
        """Refuse a folder that was begun by another run, or with another recipe, network or split."""
        claims = (self.folder / name for name in ("trial.json", "result.json"))  # benchmarks used to write no claim
        written: dict[str, Any] = next((read_json(path) for path in claims if path.exists()), {})
        held = {key: written[key] for key in ("experiment", "short", "seed", "sets") if key in written}
        begun, content = self.begun_as, self.content
        if any(value != content[key] for key, value in held.items()):
            told = ", ".join(f"{key} {value}" for key, value in held.items())
            raise SettingsError("other-run", f"{self.folder} holds {told}; choose another folder")
        if begun["recipe"] != content["recipe"]:
            raise SettingsError(
                "other-recipe", f"{self.folder} was begun with another recipe or network; choose another folder"
            )
        if begun["split"] != content["split"]:
            raise SettingsError(
                "other-split", f"{self.folder} was begun with other splits of the patients; choose another folder"
            )

    def refuse_other_files(self) -> None:
        """Refuse to train if the site's own files have changed since the run began; splits can still be tested."""
        if not self.has_its_files:
            raise SettingsError(
                "other-files",
                f"the files in {self.data} are others than when {self.folder} was begun; "
                "train on them with another --out",
            )

    def refuse_other_pretrained(self) -> None:
        """Refuse to train from other weights than the first split began with."""
        if not self.has_its_pretrained:
            raise SettingsError(
                "other-pretrained",
                f"{self.folder} was begun from other pretrained weights than those now in {self.pretrained}; "
                "train from them with another --out",
            )

    def refuse_foreign_split(
        self, folder: Path, written: Mapping[str, Any], patients: Mapping[str, Sequence[str]]
    ) -> None:
        """Refuse a split that was moved here from another run; keys that earlier versions did not write count as equal.

        Parameters
        ----------
        written : mapping
            What the split says of itself, such as its ``result.json``.
        patients : mapping
            Who should be on each side of the split, by the side's key in ``written``.
        """
        begun = self.begun_as
        claim: dict[str, Any] = written.get("claim", {})
        differing = [key for key, value in claim.items() if value != begun.get(key, value)]
        differing += [side for side, names in patients.items() if written.get(side, names) != names]
        if differing:
            raise SettingsError(
                "foreign-split",
                f"{folder} is of another run than {self.folder}: they differ in {', '.join(differing)}; move it out",
            )

    @property
    def has_its_pretrained(self) -> bool:
        """Whether the pretrained weights are still those that the run began with."""
        return bool(self.begun_as["pretrained"] == self.content["pretrained"])


def _weights_of(pretrained: Path, *, short: bool) -> str:
    """Return the hash of the weights to begin with; refuse a short form's, which would make a full run a short one."""
    card = open_pretrained(pretrained)[1]
    if card.short and not short:
        raise SettingsError(
            "short-run", f"{pretrained} was trained in short form; train it in full length, or begin a run with --short"
        )
    return card.weights_sha256


def lock(folder: Path) -> int:
    """Make a run's folder and keep other processes out of it until the returned file descriptor is closed.

    Raises
    ------
    SettingsError
        When the folder cannot be made, another process works in it, or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SettingsError(
            "no-folder", f"{folder} cannot be a run's folder ({error.strerror}); choose another --out"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        if isinstance(error, BlockingIOError):
            raise SettingsError(
                "folder-in-use", f"another process works in {folder}; wait for it, or choose another folder"
            ) from None
        raise SettingsError(
            "no-lock", f"{folder} is where no file can be locked ({error.strerror}); choose another disk"
        ) from error
    return held


def fingerprint(experiment: Experiment) -> str:
    """Return a hash of an experiment's network, its arguments, the stacking and the recipe."""
    text = f"{experiment.network} {sorted(experiment.arguments.items())} "
    text += f"{describe(experiment.stacking)} {describe(experiment.recipe)}"
    return hashlib.sha256(text.encode()).hexdigest()
