"""What decoding bytes of others may raise, found by fuzzing (msgspec 0.22): the typed error is not all."""

import msgspec

UNPACK_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
"""Text that is not UTF-8 raises UnicodeDecodeError (a ValueError), deep nesting a RecursionError."""
