"""Export networks to OpenVINO's format, so that CPU workers need no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import openvino
import torch

from worker.networks.card import Card, exported_files, exported_sha256
from worker.networks.checkpoint import load, write
from worker.networks.network import Network


def export(path: Path) -> Card:
    """Write the network at a path in OpenVINO's format beside it; return its card, with the hash of the export.

    The weights are stored in 16 bits. The card's file is updated.

    Raises
    ------
    NetworkError
        As for ``checkpoint.load``, or the weights come from an experiment's short form.
    OSError
        A file cannot be read or written.
    """
    network, card = load(path)
    card.require_full()
    structure, weights = exported_files(path)
    openvino.save_model(convert(network), structure, compress_to_fp16=True)
    card = replace(card, openvino_sha256=exported_sha256(structure.read_bytes(), weights.read_bytes()))
    write(path.with_suffix(".json"), json.dumps(asdict(card), indent=2).encode())
    return card


def convert(network: Network) -> openvino.Model:
    """Return a network as an OpenVINO model, for any batch and image size."""
    return openvino.convert_model(network.eval(), example_input=torch.zeros(network.example_shape))
