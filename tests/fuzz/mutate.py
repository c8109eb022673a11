"""How bytes are changed: flips, cuts, repeats, numbers at their limits, pieces of other inputs."""

import random

_LIMITS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff")


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return `content` with one to four changes; never equal to it."""
    result = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        _change(result, dice)
    if bytes(result) == content:
        result.append(dice.randrange(256))
    return bytes(result)


def _change(content: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(content) + 1)
    match dice.randrange(6):
        case 0 if at < len(content):
            content[at] ^= 1 << dice.randrange(8)
        case 1 if at < len(content):
            content[at] = dice.randrange(256)
        case 2:
            del content[at : at + dice.randint(1, 16)]
        case 3:
            content[at:at] = dice.randbytes(dice.randint(1, 16))
        case 4:
            piece = dice.choice(_LIMITS)
            content[at : at + len(piece)] = piece
        case _:
            content[at:at] = content[at : at + dice.randint(1, 64)]
