"""The two ends of the tunnel between a host's llama-server and a worker's rpc-server, and their process.

What crosses it, what stays home, and who may use it: docs/split.md.
"""
