"""Receiving: from an association to an instance that is safe on disk and in the record."""
