"""From pixels to findings to DICOM objects: reads a study's files and writes a folder of results."""
