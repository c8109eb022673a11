"""The engine's output as lines and loading progress, from raw chunks of a pipe. Pure."""

from models_registry.log_ring import MAX_LINE_BYTES

LOADING_DOTS = 100
"""llama.cpp prints one dot for each hundredth of the weights, all on one line."""


class OutputScanner:
    """Cuts chunks into lines, keeps at most one bounded unfinished line, and counts loading dots."""

    def __init__(self) -> None:
        self._rest = b""
        self._fraction: float | None = None

    @property
    def fraction(self) -> float | None:
        """How much is loaded, 0 to 1; None while the engine has not told."""
        return self._fraction

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk ended, each at most one byte over the kept length."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        # One byte more than is kept, so that the log can tell that it was cut.
        self._rest = rest[: MAX_LINE_BYTES + 1]
        for line in (*lines, self._rest):
            self._count_dots(line)
        return [line[: MAX_LINE_BYTES + 1] for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """Return the unfinished last line, if any."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []

    def _count_dots(self, line: bytes) -> None:
        bare = line.strip()
        if 3 <= len(bare) <= LOADING_DOTS and not bare.strip(b"."):
            self._fraction = max(self._fraction or 0.0, len(bare) / LOADING_DOTS)
