"""The network that Hilum ships: its recipe, how it is judged, and the alternatives it was compared with."""
