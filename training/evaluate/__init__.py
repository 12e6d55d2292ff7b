"""Evaluating: from weights and samples to the papers' measures and pictures."""
