"""The runs that a benchmark builds on."""

from __future__ import annotations

from pathlib import Path

from dicom_node.errors import SettingsError
from training.files import read_json


def earlier_run(runs: Path, name: str, short: bool) -> Path:
    """Return the folder of a run, all splits of which are trained.

    Parameters
    ----------
    short : bool
        Whether the benchmark is measured in short form; if not, the run must not be short either.

    Raises
    ------
    SettingsError
        When the run is missing, unfinished or short.
    """
    folder = runs / name
    if not (folder / "result.json").exists():
        raise SettingsError("missing-run", f"expected the run {name} in {runs}; train it first")
    result = read_json(folder / "result.json")
    done, wanted = result["splits_done"], result["splits_all"]
    if done < wanted:
        raise SettingsError("unfinished-run", f"{folder} has {done} of {wanted} splits; train the others first")
    if result["short"] and not short:
        raise SettingsError("short-run", f"{folder} is short; train it in full length, or measure it with --short")
    return folder
