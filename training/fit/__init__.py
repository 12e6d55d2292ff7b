"""Fitting: from a recipe and batches to weights, resumable at every step."""
