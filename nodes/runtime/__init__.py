"""The I/O shell around `nodes.mesh`: clock, sockets, processes' facts, fan-out. No decisions."""
