"""Dispatching: turning a whole study (one that has arrived in full) into a queued job."""
