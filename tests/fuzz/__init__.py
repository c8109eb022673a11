"""Hostile bytes at everything that reads bytes of others: `python -m tests.fuzz --frames 1000000`.

Nothing may be accepted, nothing may grow, everything is counted. Seeded: a finding is replayed with
`--seed`. Valid bytes are changed in a few places, because random ones rarely get past the first check.
"""
