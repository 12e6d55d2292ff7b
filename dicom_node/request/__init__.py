"""Requesting: associations that Hilum requests, to send or to fetch."""
