"""docs/conformance.md: its tables are written from the code, by `python -m tests.conformance`."""
