"""Delivering: sending finished results until the PACS says that it holds them; and notifying the webhook."""
