"""What a finished experiment leaves in its `result.json`."""

from __future__ import annotations

from typing import Any

RESULT: dict[str, Any] = {
    "experiment": "wu-thresholds",
    "paper": "Wu et al. 2020, table 1",
    "differs": "other data",
    "data": ["mine", "yours"],
    "short": True,
    "length": "2 epochs at 32x32",
    "splits_done": 1,
    "splits_all": 3,
    "split_by": "slice",
    "parameters": 372486,
    "seed": 0,
    "source": "0123456789abcdef",
    "torch": "2",
    "device": "AMD EPYC, 2 threads",
    "measures": {
        "lung/dice_per_case": {"mean": 0.9512, "standard_deviation": None, "count": 1},
        "extra": {"mean": None, "standard_deviation": None, "count": 0},
    },
    "published": [
        {"measure": "lung/dice_per_case", "mean": 0.921, "standard_deviation": None, "place": "text"},
        {"measure": "lung/dice_per_case", "mean": 0.941, "standard_deviation": None, "place": "table 1"},
        {"measure": "never measured", "mean": 0.5, "standard_deviation": 0.1, "place": "table 2"},
    ],
    "splits": [{"training_seconds": 120.0}],
}
