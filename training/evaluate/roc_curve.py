"""Draw the receiver operating characteristic of the classifier of candidates. Wu et al. 2020, figure 11."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.evaluate.metrics import Roc
from training.files import replace_file

SIDE = 240
MARGIN = 36


def write_roc_curve(roc: Roc, path: Path) -> None:
    """Write an SVG with the curve, the line of mere chance, and a dot at the threshold of the highest accuracy.

    Nothing is written if all candidates are of one kind: there is no curve then.
    """
    if roc.positives == 0 or roc.negatives == 0:
        return
    threshold, accuracy = roc.best_threshold()
    curve = np.stack([SIDE * roc.false_positive_rate, SIDE * (1 - roc.true_positive_rate)], axis=1).tolist()
    x, y = curve[roc.thresholds.tolist().index(threshold)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
    size = f"{SIDE + 2 * MARGIN} {SIDE + 2 * MARGIN}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<g transform="translate({MARGIN} {MARGIN})">',
        f'<text y="-8">AUC {roc.area:.3f}; accuracy {accuracy:.3f} from {threshold:.2f} (dot)</text>',
        f'<path d="M0 0V{SIDE}H{SIDE}" fill="none" stroke="black" stroke-width="0.5"/>',
        f'<path d="M0 {SIDE}L{SIDE} 0" fill="none" stroke="gray" stroke-dasharray="3"/>',
        f'<polyline points="{points}" fill="none" stroke="crimson" stroke-width="1.5"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="crimson"/>',
        f'<text x="{SIDE / 2}" y="{SIDE + 20}" text-anchor="middle">false positives, 0 to 1</text>',
        f'<text transform="translate(-10 {SIDE / 2}) rotate(-90)" text-anchor="middle">true positives, 0 to 1</text>',
        "</g>",
        "</svg>",
    ]
    replace_file(path, lambda partial: partial.write_text("\n".join(lines) + "\n"))
