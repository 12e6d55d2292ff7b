"""Which kernels count as sharp, for the selection of a series and for the flag alike."""

from __future__ import annotations

import pytest

from dicom_node.kernels import is_sharp


@pytest.mark.parametrize(
    "kernel",
    [
        *("B50f", "B60f", "B70s", "Br54", "Br59", "BL57D 3", "I70f 2", "D50f", "Qr59"),  # Siemens
        *("LUNG", "BONE", "BONEPLUS", "EDGE", "DETAIL"),  # GE
        *("D", "E", "L", "YA", "YB", "YC"),  # Philips
        *("FC50", "FC51", "FC86"),  # Canon
        *("B_SHARP_C", "B_VSHARP_B"),  # United Imaging
    ],
)
def test_a_kernel_that_sharpens_is_sharp(kernel: str) -> None:
    assert is_sharp(kernel)
    assert is_sharp(kernel.lower())


@pytest.mark.parametrize(
    "kernel",
    [
        *("", "SYNTHETIC"),
        *("B30f", "B40f", "Br36", "Br40d 3", "D40s", "I31f 5", "Qr40"),
        *("SOFT", "STANDARD", "CHST"),
        *("A", "B", "C"),
        *("FC08", "FC18", "FC64"),
        "B_SOFT_B",
    ],
)
def test_a_kernel_for_soft_tissue_is_not(kernel: str) -> None:
    assert not is_sharp(kernel)
