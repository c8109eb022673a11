"""The figures of the bulk lane and of weights that stay home: `python -m benchmarks.lane`."""
