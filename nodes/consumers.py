"""Channels consumers: the operator's door to the node, and the browser's live view."""
