"""Requesting: associations that Hilum asks others for, to send or to fetch."""
