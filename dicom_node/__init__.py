"""DICOM in and out, and the record of every study."""
