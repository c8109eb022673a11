"""Keys by which a conversation's next request finds the host of the last one.

PURE. A request's key is a hash over the model and every message, each adding to the ones before. What
stands before a message that a model wrote was once a request of its own, so those places give the keys of
the earlier turns. Requests without such a message begin something new: they have no earlier turn, and a
thousand equal ones spread over the hosts like any others.

Knows chat completions and messages (`messages`, `system`) and responses (`input`, `instructions`). Other
bodies have no keys: a bare prompt does not say where its last turn ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

KEY_BYTES = 16
ENDS_BYTES = 32 * 1024
"""Of a longer message (an image, a book) its length and so much of either end are hashed: hashing 32 MiB
would hold up every stream as long as reading them did, and a mistake costs no more than a cold prompt."""
TURNS_MAX = 64
"""Earlier turns looked for, the latest first. Older ones would spare little of the prompt."""


class _Conversation(msgspec.Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    system: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instructions: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct):
    role: str = ""
    type: str = ""


_BODY = msgspec.json.Decoder(_Conversation)
_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(_Message)
_WRITTEN_BY_MODEL = frozenset(("reasoning", "function_call", "custom_tool_call"))
"""Types of a response's items that have no role and come from the model."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What identifies a request among the turns of a conversation."""

    key: bytes
    """Stands for the whole request; remembered with who answered it."""
    earlier: tuple[bytes, ...]
    """Keys of the turns before, the latest first."""


def conversation(body: bytes, model: str) -> Conversation | None:
    """Return the keys of a request for `model`; None: it is no conversation that could be read."""
    try:
        fields = _BODY.decode(body)
        listed = fields.messages if fields.messages is not msgspec.UNSET else fields.input
        if isinstance(listed, msgspec.UnsetType):
            return None
        messages = _MESSAGES.decode(listed)
        digest = blake2b(model.encode("utf-8", "replace"), digest_size=KEY_BYTES)
        for seed in (fields.system, fields.instructions):
            if not isinstance(seed, msgspec.UnsetType):
                digest.update(seed)
        earlier = list(_keys(messages, digest))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    earlier.reverse()
    return Conversation(digest.digest(), tuple(earlier[:TURNS_MAX]))


def _keys(messages: list[msgspec.Raw], digest: blake2b) -> Iterator[bytes]:
    """Add every message to the digest; yield its state before each answer of the model."""
    in_answer = True  # nothing was asked before the first message
    for raw in messages:
        head = _MESSAGE.decode(raw)
        by_model = head.role == "assistant" or (not head.role and head.type in _WRITTEN_BY_MODEL)
        if by_model and not in_answer:
            yield digest.digest()
        in_answer = by_model
        _add(digest, memoryview(raw))


def _add(digest: blake2b, message: memoryview) -> None:
    digest.update(b"%d:" % len(message))
    if len(message) <= 2 * ENDS_BYTES:
        digest.update(message)
    else:
        digest.update(message[:ENDS_BYTES])
        digest.update(message[-ENDS_BYTES:])
