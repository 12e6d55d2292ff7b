"""Settings of the analysis: selection of series, jobs, workers and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dicom_node.settings.section import Seconds, Section


class SelectionSettings(Section):
    """Which series of a study is measured. The worker refuses fewer slices or less of the body than the defaults."""

    minimum_slices: Annotated[int, Field(ge=10)] = 10
    """A series with fewer slices is not measured."""
    minimum_extent_mm: Annotated[float, Field(ge=100)] = 100.0
    """A series that covers less of the body is not measured."""
    maximum_thickness_mm: Annotated[float, Field(gt=0)] = 10.0
    """A series with thicker slices is not measured."""
    preferred_thickness_mm: Annotated[float, Field(gt=0)] = 2.0
    """Of several series, the one with the slice thickness nearest to this is measured."""


class JobSettings(Section):
    """How long a worker may be silent, and how often a job is tried."""

    lease_seconds: Seconds = 60.0
    """A worker that is silent for this long loses its job to another worker."""
    sweep_seconds: Seconds = 15.0
    """How often Hilum looks for forgotten jobs."""
    maximum_attempts: Annotated[int, Field(ge=1)] = 3
    """After this many failed attempts, the study is answered with a report that says so."""
    retry_seconds: Seconds = 30.0
    """Pause before a failed job is tried again."""


class WorkerSettings(Section):
    """The analysis on this machine.

    By default, a trained network finds lungs and infection: the one that Hilum ships, or the one in
    ``weights``, a safetensors file with its card beside it.
    """

    threads: Annotated[int, Field(ge=0)] = 0
    """Threads per worker; 0: one per core."""
    method: Literal["network", "thresholds"] = "network"
    """What finds lungs and infection."""
    weights: Path | None = None
    """A network's weights, with their card beside them; unset: those that Hilum ships."""


class ReportSettings(Section):
    """What the answers look like.

    OHIF shows a report titled DCM 126000 as a blank page. With ``rejection_note``, an answer that replaces
    an earlier one withdraws it, and archives that follow IHE IOCM then hide it.
    """

    title: Literal["LN 18748-4", "DCM 126000"] = "LN 18748-4"
    """Title of the structured report."""
    rejection_note: bool = False
    """Withdraw an answer when a newer one replaces it."""
    segmentation: Literal["BINARY", "LABELMAP"] = "BINARY"
    """LABELMAP is smaller, but few archives and viewers support it yet."""
    page: bool = False
    """Also send a printable page, as Encapsulated PDF; it names the patient by ID."""
