"""How far this node should mistrust its own view: Lifeguard's local health score.

0 is healthy. Missed acks and nacks, own refutations and stalls raise it; answered probes lower it. Probe
intervals and timeouts are multiplied by (1 + score), so a slow observer accuses late. Source: Lifeguard
section 4.1 (local health multiplier).
"""


class Awareness:
    """The score."""

    __slots__ = ("_max", "score")

    def __init__(self, score_max: int) -> None:
        self._max = score_max
        self.score = 0

    def change(self, by: int) -> None:
        """Move the score, within 0 and the highest."""
        self.score = min(self._max - 1, max(0, self.score + by))

    @property
    def factor(self) -> int:
        """What probe intervals and timeouts are multiplied by: 1 when healthy."""
        return self.score + 1
