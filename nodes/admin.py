"""The admin of peers, elections and events: read-only facts, actions through the mesh."""
