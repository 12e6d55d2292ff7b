import itertools
from pathlib import Path

import numpy as np

from training import datasets
from training.datasets.sample import INFECTION, LUNG


def test_a_phantom_is_a_sample_with_both_masks(tmp_path: Path) -> None:
    (sample,) = itertools.islice(datasets.read("phantom", tmp_path), 1)
    lung, infection = sample.mask(LUNG), sample.mask(INFECTION)
    assert 0 < infection.sum() < lung.sum()
    assert (lung | ~infection).all()
    assert np.median(sample.image[lung & ~infection]) < -750
