"""Unique identifiers that are the same whenever the same result is made again."""

from __future__ import annotations

import hashlib
import json
import uuid

from pydicom.uid import UID

from worker.findings import Algorithm
from worker.reports.source import Source
from worker.volume import Volume


def derive_uid(*parts: str) -> UID:
    """Return the UID that follows from the parts: a UUID under the root 2.25 (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts)).int}")


def device_uid(algorithm: Algorithm) -> UID:
    """Return the UID of the device that the algorithm is; retrained weights are another device (IHE AIR)."""
    return derive_uid("device", algorithm.name, algorithm.version, algorithm.weights_sha256 or "")


def result_key(
    source: Source,
    algorithm: Algorithm,
    *,
    volume: Volume | None = None,
    settings: tuple[tuple[str, str], ...] = (),
) -> str:
    """Return the digest from which all UIDs of one result derive.

    It covers what goes in: the source's instances, identity and pixels, the algorithm with its weights,
    and the settings that change results; never the result's own bytes, which may differ in rounding.

    Parameters
    ----------
    volume : Volume or None
        None where there is no result but a refusal.
    settings : tuple of (str, str)
        The reports' own settings; the algorithm brings its own.
    """
    digest = hashlib.sha256()
    instances = [[str(image.SOPInstanceUID) for image in source.images]]
    frames = [[slice_.sop_instance_uid, slice_.frame_number] for slice_ in volume.slices] if volume else []
    made_by = [algorithm.name, algorithm.version, algorithm.weights_sha256, algorithm.settings, settings]
    digest.update(json.dumps([instances, frames, source.identity.to_json_dict(), made_by]).encode())
    if volume is not None:
        digest.update(volume.hu.data if volume.hu.flags.c_contiguous else volume.hu.tobytes())
    return digest.hexdigest()
