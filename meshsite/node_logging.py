"""Logs of the node: lines a person can read, or one JSON object a line; a rotated file besides.

The invite token, keys and prompts are never logged: start-up lines that show the token are printed,
not logged, and nothing here formats request bodies.
"""

import json
import logging
import logging.handlers
import sys
import time
from pathlib import Path

FILE_MAX_BYTES = 5_000_000
"""Size at which `logs/node.log` is rotated."""

FILES_KEPT = 3
"""Rotated files kept besides the current one."""

QUIET = ("daphne", "twisted", "uvicorn", "quic", "asyncio", "httpx", "huggingface_hub", "django")
"""Libraries that speak up only from WARNING on."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``{at, level, logger, text, ...extra}``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD and v != ""})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """``12:34:56 text``, with the level only where it is not plain information."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = f"{clock} {level}{record.getMessage()}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text


def configure(folder: Path, *, as_json: bool) -> None:
    """Send the node's log to standard error and to ``folder/node.log``."""
    formatter = JsonFormatter() if as_json else TextFormatter()
    screen = logging.StreamHandler(sys.stderr)
    file = logging.handlers.RotatingFileHandler(
        folder / "node.log", maxBytes=FILE_MAX_BYTES, backupCount=FILES_KEPT, encoding="utf-8"
    )
    root = logging.getLogger()
    root.handlers.clear()
    for handler in (screen, file):
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Pages that are not there and refused requests are the browser's business, not the operator's.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
