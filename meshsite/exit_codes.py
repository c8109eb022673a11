"""How `mesh-llm` ends, as docs/operations.md tells it."""

OK = 0
CANNOT_START = 1
"""It cannot start or go on; the last line on standard error says why."""
USAGE = 2
"""The flags cannot be used."""
CUT_OFF = 130
"""A second signal, or an orderly stop that took too long."""
