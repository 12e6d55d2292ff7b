"""What a worker measures with: a method and a number of threads."""

from __future__ import annotations

import os

import SimpleITK as sitk

from dicom_node.settings import WorkerSettings
from worker.pipeline import THRESHOLDS, Method


def choose_method(settings: WorkerSettings) -> Method:
    """Return the method by which the pipeline finds lungs and infection; a network's weights are loaded.

    Raises
    ------
    SettingsError
        The weights are missing, damaged, or not those of a chest network.
    """
    if settings.method == "thresholds":
        return THRESHOLDS
    from worker.models.store import open_network  # engines take seconds and 250 MB, which thresholds do not need

    return open_network(settings)


def use_threads(threads: int) -> None:
    """Limit SimpleITK's threads; 0 means every core that this process may use."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads or len(os.sched_getaffinity(0)))
