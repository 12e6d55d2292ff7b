"""The papers' networks, one a file, with their checkpoints and the engines that run them.

Nothing here knows of DICOM, of training or of the rest of the worker: it imports torch, MONAI and OpenVINO. Those who
only read a scan on CPU (``engine``, ``openvino_engine``) need no torch.
"""

import sys

# OpenVINO reports every import and conversion to its makers over the network, unless this module is missing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks a module as missing
