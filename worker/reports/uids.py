"""Unique identifiers that are the same whenever the same result is made again."""

from __future__ import annotations

import json
import uuid

from pydicom.uid import UID

from worker.findings import Algorithm


def derive_uid(*parts: str) -> UID:
    """Return the UID that follows from the parts: a UUID under the root 2.25 (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts)).int}")


def device_uid(algorithm: Algorithm) -> UID:
    """Return the UID of the device that the algorithm is; retrained weights are another device (IHE AIR)."""
    return derive_uid("device", algorithm.name, algorithm.version, algorithm.weights_sha256 or "")
