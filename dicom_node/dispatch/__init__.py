"""Dispatching: from a study that is whole to a queued job."""
