"""Decides the tokens of the project's own models: a SentencePiece-style list that llama.cpp splits greedily.

PURE. A piece `▁word` is reachable for llama.cpp's bigram merger only if each of its prefixes is a
token too, and a longer piece must score higher; both are seen to here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

SPACE = "\u2581"
BYTE_TOKENS = 256
ALIGNMENT = 32
"""The vocabulary's size is a multiple of this, so that every row fits whole quantisation blocks."""

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Kind(IntEnum):
    """A token's kind, by llama.cpp's numbers (gguf.TokenType)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens in order, with their kinds, scores, and the ids of those that are whole words."""

    tokens: tuple[str, ...]
    kinds: tuple[Kind, ...]
    scores: tuple[float, ...]
    whole_words: frozenset[int]

    def id_of(self, token: str) -> int:
        """Return a token's id. Raises ValueError when there is none."""
        return self.tokens.index(token)


def build_vocabulary(words: Iterable[str]) -> Vocabulary:
    """Return specials, the 256 bytes, printable ASCII, and each word with all its prefixes."""
    rows: list[tuple[str, Kind, float]] = [
        ("<unk>", Kind.UNKNOWN, 0.0),
        ("<s>", Kind.CONTROL, 0.0),
        ("</s>", Kind.CONTROL, 0.0),
    ]
    rows += [(f"<0x{byte:02X}>", Kind.BYTE, 0.0) for byte in range(BYTE_TOKENS)]
    rows += [(TURN_START, Kind.CONTROL, 0.0), (TURN_END, Kind.CONTROL, 0.0)]
    rows.append((SPACE, Kind.NORMAL, -1000.0))
    rows += [(chr(code), Kind.NORMAL, -1000.0) for code in range(33, 127)]
    seen = {token for token, _, _ in rows}
    whole = set()
    wanted = list(dict.fromkeys(words))
    for word in wanted:
        for length in range(1, len(word) + 1):
            piece = SPACE + word[:length]
            if piece not in seen:
                seen.add(piece)
                rows.append((piece, Kind.NORMAL, -500.0 + length))
    index = {token: number for number, (token, _, _) in enumerate(rows)}
    whole = {index[SPACE + word] for word in wanted}
    while len(rows) % ALIGNMENT:
        rows.append((f"<|pad{len(rows)}|>", Kind.UNUSED, -2000.0))
    return Vocabulary(
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
        frozenset(whole),
    )
