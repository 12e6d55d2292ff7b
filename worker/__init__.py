"""Pixels to findings to DICOM objects: a folder of a study in, a folder of results out."""
