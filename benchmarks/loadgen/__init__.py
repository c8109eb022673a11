"""The load generator: one process per load, a spec as JSON on stdin, the result as JSON on stdout."""
