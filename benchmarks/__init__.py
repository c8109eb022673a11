"""Paired measurements of this node against its peers: `make bench`, or `python -m benchmarks --help`."""
