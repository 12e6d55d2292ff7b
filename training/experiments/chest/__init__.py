"""The network that Hilum ships: its recipe, how it is judged, and what was weighed against it."""
