"""The bulk lane: mutual TLS over TCP between members, many tunnels over pooled connections.

Runs in a child process of the node (`models_registry.rpc`), never on the node's own loop. How it fits
together, and what it defends: docs/split.md.
"""
