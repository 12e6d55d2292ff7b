"""The papers' networks, one a file, with their checkpoints and the engines that run them.

Nothing here knows of DICOM, of training or of the rest of the worker: it imports torch, monai and types.
"""
