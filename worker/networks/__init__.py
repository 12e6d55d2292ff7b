"""The papers' networks, one per file, with their checkpoints and the engines that run them.

Nothing here depends on DICOM, on training or on the rest of the worker, only on torch, MONAI and OpenVINO. Modules
that only run a network on CPU (``engine``, ``openvino_engine``) need no torch.
"""

import sys

# OpenVINO reports every import and conversion to its makers over the internet, unless this module is missing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks a module as missing
