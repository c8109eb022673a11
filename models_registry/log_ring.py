"""The last lines of the engines' output: numbered and bounded in memory, rotated on disk.

Lines are untrusted: a model's file name or metadata may hold anything. What is kept is printable,
short, and without what the engine repeats of a request (it quotes a malformed body in its errors).
"""

import contextlib
import logging
import logging.handlers
import os
import re
from collections import deque
from io import TextIOWrapper
from pathlib import Path

MAX_LINES = 2000
"""Lines kept for each model; the oldest go first."""
MAX_LINE_BYTES = 2000
"""A longer line is cut, with a mark."""
MAX_MODELS = 32
"""Models with a log; at the bound the one that was silent longest goes."""
FILE_BYTES = 2_000_000
"""Size of one log file; with `FILE_BACKUPS` old ones the most a model's log takes on disk is 6 MB."""
FILE_BACKUPS = 2
_CUT = " [cut]"
_QUOTES_A_REQUEST = re.compile(
    r"(got exception:|last read:|failed to parse|parse error).*", re.IGNORECASE
)
_ERROR_CODE = re.compile(r'"code":\s*(\d+)')
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_log = logging.getLogger(__name__)


def printable(raw: bytes) -> str:
    """Return the line as text that can be shown: escapes for control and undecodable bytes, cut when long."""
    text = raw[:MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r\n")
    shown = "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text
    )
    return shown + _CUT if len(raw) > MAX_LINE_BYTES else shown


def without_request(line: str) -> str:
    """Return the line without what it may quote of a request: prompts are in no log."""
    found = _QUOTES_A_REQUEST.search(line)
    if not found:
        return line
    code = _ERROR_CODE.search(found.group(0))
    kept = line[: found.start()] + found.group(1)
    return f"{kept} [{'code ' + code.group(1) + ', ' if code else ''}text left out: it may quote a request]"


class LogRing:
    """The last `MAX_LINES` lines of one model's engines, numbered from 1 over all its runs."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._next = 1

    def append(self, line: str) -> int:
        """Keep the line; return its number."""
        self._lines.append(line)
        self._next += 1
        return self._next - 1

    def tail(self, after: int, limit: int) -> tuple[int, list[str]]:
        """Return (number of the first line returned, the newest lines after number `after`, at most `limit`).

        With nothing newer the number is that of the line to come.
        """
        oldest = self._next - len(self._lines)
        first = max(after + 1, oldest, self._next - max(limit, 0))
        first = min(first, self._next)
        return first, [self._lines[number - oldest] for number in range(first, self._next)]


class EngineLog:
    """Where one model's engine output goes: its ring and its file."""

    def __init__(self, ring: LogRing, file: "OwnerOnlyFile") -> None:
        self._ring = ring
        self._file = file

    def write(self, raw_lines: list[bytes]) -> list[str]:
        """Keep the lines; return them as they were kept."""
        lines = [without_request(printable(raw)) for raw in raw_lines]
        for line in lines:
            self._ring.append(line)
        if lines:
            self._file.write(lines)
        return lines

    def close(self) -> None:
        """Close the file; the ring stays readable."""
        self._file.close()


class OwnerOnlyFile(logging.handlers.RotatingFileHandler):
    """A rotated file that only the owner reads. A full disk loses lines, never the engine."""

    def __init__(
        self, path: Path, max_bytes: int = FILE_BYTES, backups: int = FILE_BACKUPS
    ) -> None:
        super().__init__(
            path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", delay=True
        )
        self._complained = False

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8")

    def write(self, lines: list[str]) -> None:
        """Append the lines with one write."""
        self.handle(logging.makeLogRecord({"msg": "\n".join(lines)}))

    def close(self) -> None:
        """Close the file; what a full disk did not take is lost here, and only here."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the file cannot be written; the ring still has the lines."""
        if not self._complained:
            self._complained = True
            _log.warning(
                "the engine's log %s cannot be written; it is kept in memory only",
                self.baseFilename,
            )


class EngineLogs:
    """The logs of all models of this node; a `nodes.runtime.handle.LogSource`."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._rings: dict[str, LogRing] = {}

    def open(self, model: str) -> EngineLog:
        """Return where a new run of this model writes; its earlier lines stay."""
        ring = self._rings.pop(model, None) or LogRing()
        while len(self._rings) >= MAX_MODELS:
            del self._rings[next(iter(self._rings))]
        self._rings[model] = ring
        stem = _UNSAFE_IN_FILE_NAME.sub("_", model)[:100].lstrip(".") or "model"
        return EngineLog(ring, OwnerOnlyFile(self._log_dir / f"engine-{stem}.log"))

    def tail(self, model: str, after: int, limit: int) -> tuple[int, list[str]]:
        """Return (number of the first line returned, lines newer than `after`, at most `limit`)."""
        ring = self._rings.get(model)
        return ring.tail(after, limit) if ring else (1, [])

    def models(self) -> list[str]:
        """Return the names that have a log, by name."""
        return sorted(self._rings)
