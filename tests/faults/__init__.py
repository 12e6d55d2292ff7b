"""Hilum's real processes, really broken; and what is left of the studies afterwards.

``pytest -m fault`` breaks each thing by itself and runs a short storm of kills; ``python -m tests.faults`` runs a
long storm and writes docs/reliability.md.
"""
