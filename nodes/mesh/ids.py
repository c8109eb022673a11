"""The names of things. Each is a plain string or number underneath, told apart by mypy."""

from typing import NewType

NodeId = NewType("NodeId", str)
"""64 lower-case hex digits: SHA-256 of the node's SubjectPublicKeyInfo (RFC 5280 section 4.1)."""

ModelName = NewType("ModelName", str)
"""A model's id: the stem of its file, of a sharded file without ``-00001-of-N``."""

RunId = NewType("RunId", int)
"""One start of one engine by this process; never used twice, so a late report of an old run is told."""
