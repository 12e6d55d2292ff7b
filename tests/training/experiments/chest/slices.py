"""Slices of a small chest, and a network that finds its lungs and infection by gray values alone."""

from __future__ import annotations

from tests.factories import chest_hu
from tests.worker.by_gray import CARD, ByGray
from training.datasets.sample import INFECTION, LUNG, Sample
from worker.chest_network import ChestNetwork

HU, LUNGS, INFECTED = chest_hu()
GRAY_NETWORK = ChestNetwork(ByGray(), CARD)


def slices_of(patient: str) -> list[Sample]:
    """Return the middle slices of the chest as those of a patient, with what is drawn in them."""
    return [
        Sample(
            name=f"{patient}_{z}",
            source="infection-slices",
            patient=patient,
            scan=patient,
            position=z,
            image=HU[z : z + 1],
            intensity="hu",
            masks={LUNG: LUNGS[z : z + 1] > 0, INFECTION: INFECTED[z : z + 1]},
        )
        for z in range(14, 26)
    ]
