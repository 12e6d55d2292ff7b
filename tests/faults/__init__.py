"""Hilum's real processes are broken on purpose; afterwards it is checked what became of the studies.

``pytest -m fault`` breaks one thing at a time and runs a short storm of kills; ``python -m tests.faults`` runs a
long storm, and writes docs/reliability.md with ``--write-docs``.
"""
