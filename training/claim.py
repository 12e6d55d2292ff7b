"""Whose a run's folder is: no other run goes on there, and no two processes work in it at once."""

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
from training.files import read_json, write_json
from training.prepared import describe
from training.pretrained import open_pretrained


class Claim:
    """What a run is, beside what its folder was begun as (``trial.json``).

    Parameters
    ----------
    pretrained : Path or None
        The weights that training begins with.

    Raises
    ------
    SettingsError
        When those cannot be opened.
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
            "pretrained": open_pretrained(pretrained)[1].weights_sha256 if pretrained is not None else "",
        }

    @property
    def begun_as(self) -> dict[str, Any]:
        """The claim that the folder was begun with; one written before a key was added agrees in it."""
        path = self.folder / "trial.json"
        return self.content | read_json(path) if path.exists() else self.content

    @property
    def is_trained(self) -> bool:
        """Whether anything in the folder has learned yet: until then its data may change."""
        return any(self.folder.glob("split-*/state.pt")) or any(self.folder.glob("split-*/result.json"))

    @property
    def has_its_files(self) -> bool:
        """Whether the folder was begun, and on a site's own files as they are now."""
        return (self.folder / "trial.json").exists() and bool(self.begun_as["files"] == self.content["files"])

    def write(self) -> None:
        """Claim the folder."""
        write_json(self.folder / "trial.json", self.begun_as if self.is_trained else self.content)

    def lock(self) -> None:
        """Keep other processes out of the folder for as long as this claim, or its process, lives.

        Raises
        ------
        SettingsError
            When it can be no folder, another process works there, or its file system knows no locks.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "trial.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise SettingsError(
                "no-folder", f"{self.folder} cannot be a run's folder ({error.strerror}); choose another --out"
            ) from error
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                "folder-in-use", f"another process works in {self.folder}; wait for it, or choose another folder"
            ) from None
        except OSError as error:
            raise SettingsError(
                "no-lock", f"{self.folder} is where no file can be locked ({error.strerror}); choose another disk"
            ) from error

    def refuse_another_run(self) -> None:
        """Refuse a folder that another run has begun."""
        result = self.folder / "result.json"
        if result.exists() and not (self.folder / "trial.json").exists():  # a benchmark's, which claims nothing
            raise SettingsError(
                "other-run", f"{self.folder} holds {read_json(result)['experiment']}; choose another folder"
            )
        begun, content = self.begun_as, self.content
        if begun | {key: content[key] for key in ("files", "recipe", "split", "pretrained")} != content:
            held = ", ".join(f"{key} {begun[key]}" for key in ("experiment", "short", "seed", "sets"))
            raise SettingsError("other-run", f"{self.folder} holds {held}; choose another folder")
        if begun["recipe"] != content["recipe"]:
            raise SettingsError(
                "other-recipe", f"{self.folder} was begun with another recipe or network; choose another folder"
            )
        if begun["split"] != content["split"]:
            raise SettingsError(
                "other-split", f"{self.folder} was begun with other splits of the patients; choose another folder"
            )

    def refuse_other_files(self) -> None:
        """Refuse to train on a site's own files when they have changed; what is trained can be tested all the same."""
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

    def refuse_foreign_split(self, folder: Path, patients: Mapping[str, Sequence[str]]) -> None:
        """Refuse a split that was moved here from another run; what earlier versions did not write down agrees.

        Parameters
        ----------
        patients : mapping
            Who should be on each side of it, by the sides' names in its ``result.json``.
        """
        written, begun = read_json(folder / "result.json"), self.begun_as
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
        """Whether the weights that the run began with still lie in their place."""
        return bool(self.begun_as["pretrained"] == self.content["pretrained"])


def fingerprint(experiment: Experiment) -> str:
    """Return a hash of all that decides the weights, besides the data, the splits and the seed."""
    text = f"{experiment.network} {sorted(experiment.arguments.items())} "
    text += f"{describe(experiment.stacking)} {describe(experiment.recipe)}"
    return hashlib.sha256(text.encode()).hexdigest()
