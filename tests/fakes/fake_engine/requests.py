"""What a request's body asks for, read once per distinct body."""

import msgspec

REMEMBERED_BODIES = 256
"""Bound of the memory of decoded bodies: load generators repeat themselves."""


class Wish(msgspec.Struct, frozen=True):
    """The body's ``fake`` object: how this one answer shall go. Unknown fields are ignored."""

    interval_s: float | None = None
    """Between tokens; None: as the process was told, 0: as fast as the reader takes them."""
    first_token_s: float = 0.0
    """Before the first token (the prompt's processing)."""
    chunk_bytes: int = 0
    """Pad each token's event to about this many bytes; 0: not."""
    drop_after_tokens: int | None = None
    """Close the connection without an end after so many tokens; None: never."""
    status: int = 200
    """Answer an error of this status instead."""


class Ask(msgspec.Struct, frozen=True):
    """The part of an OpenAI request that the fake heeds."""

    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    model: str | None = None
    fake: Wish = Wish()

    @property
    def tokens(self) -> int:
        """How many tokens to send; 16 where the request does not say."""
        for asked in (self.max_tokens, self.max_completion_tokens, self.n_predict):
            if asked is not None:
                return max(0, asked)
        return 16


_decode = msgspec.json.Decoder(Ask).decode
_known: dict[bytes, Ask] = {}


def read_ask(body: bytes) -> Ask | None:
    """Return what the body asks, or None where it is not a JSON object of the expected types."""
    known = _known.get(body)
    if known is not None:
        return known
    try:
        ask = _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if len(body) < 4096:
        if len(_known) >= REMEMBERED_BODIES:
            _known.clear()
        _known[body] = ask
    return ask
