"""Data sets, augmentation, losses, the training loop, evaluation, and the papers' experiments."""
