"""Deterministic UIDs: making the same result again gives the same UIDs."""

from __future__ import annotations

import json
import uuid

from pydicom.uid import UID

from worker.findings import Algorithm


def derive_uid(*parts: str) -> UID:
    """Return the UID derived from the parts: a version 5 UUID under the root 2.25 (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts)).int}")


def is_derived(uid: str) -> bool:
    """Whether a UID may come from `derive_uid`: it holds a UUID of version 5, whereas viewers make random ones."""
    number = uid.removeprefix("2.25.")
    if number == uid or not number.isdecimal() or int(number) >= 2**128:
        return False
    return uuid.UUID(int=int(number)).version == 5


def device_uid(algorithm: Algorithm) -> UID:
    """Return the UID of the algorithm as a device; with retrained weights it is another device (IHE AIR)."""
    return derive_uid("device", algorithm.name, algorithm.version, algorithm.weights_sha256 or "")
