"""The CT images that a PACS may send in answer to C-GET."""

from __future__ import annotations

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from dicom_node.headers import CT_STORAGE

CT_IMAGES = tuple(
    (str(sop_class_uid), str(transfer_syntax_uid))
    for sop_class_uid in sorted(CT_STORAGE)
    for transfer_syntax_uid in (
        *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian),
        *(JPEGTransferSyntaxes + JPEGLSTransferSyntaxes + RLETransferSyntaxes),
        *(JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K),
    )
)
"""SOP class and transfer syntax of the CT images that a worker can read, and a C-GET may bring."""
