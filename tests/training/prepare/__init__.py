"""Tests of the preparation of samples."""
