"""The tables of docs/conformance.md, which `python -m tests.conformance` generates from the code."""
