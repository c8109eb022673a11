"""What a run has measured so far: per figure, target and round one value, or the reason for none."""

import msgspec


class Results(msgspec.Struct):
    """All values of a run; written to benchmarks/out as JSON."""

    samples: dict[str, dict[str, dict[int, float]]] = {}
    """Figure's key -> target -> round -> value."""
    reasons: dict[str, dict[str, str]] = {}
    """Figure's key -> target -> why there is no value. Key `""`: the target as a whole."""
    notes: list[str] = []
    machine: dict[str, str] = {}
    versions: dict[str, str] = {}

    def add(self, key: str, target: str, number: int, value: float) -> None:
        """Keep the value of one round."""
        self.samples.setdefault(key, {}).setdefault(target, {})[number] = value

    def excuse(self, key: str, target: str, reason: str) -> None:
        """Keep why a target has no value for a figure (`key` empty: for none of them)."""
        self.reasons.setdefault(key, {})[target] = reason

    def values(self, key: str, target: str) -> dict[int, float]:
        """Return round -> value; empty where nothing was measured."""
        return self.samples.get(key, {}).get(target, {})

    def reason(self, key: str, target: str) -> str:
        """Return why there is no value, empty where none is known."""
        return self.reasons.get(key, {}).get(target) or self.reasons.get("", {}).get(target, "")
