"""Preparing: from a sample to the augmented batches that a network sees."""
