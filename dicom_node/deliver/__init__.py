"""Delivering: from finished results to what the PACS says it holds."""
