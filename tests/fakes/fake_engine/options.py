"""What one fake process was told: the few flags it heeds, and the environment's FAKE_* variables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How this process behaves; every flag that is not here is accepted and ignored."""

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = "fake.gguf"
    slots: int = 4
    context: int = 4096
    load_s: float = 0.0
    """FAKE_LOAD_S: how long every path answers 503 ``Loading model``."""
    load_fails: bool = False
    """FAKE_LOAD_FAILS: exit 1 at once, as on a broken model file."""
    token_interval_s: float = 0.0
    """FAKE_TOKEN_INTERVAL_S: 0 means as fast as the reader takes them."""
    close_after_stream: bool = True
    """FAKE_CLOSE_AFTER_STREAM: the real one announces keep-alive after a stream, and closes."""
    ignore_term: bool = False
    """FAKE_IGNORE_TERM: SIGTERM does nothing, as with an open stream or a hanging worker."""
    exit_after_s: float | None = None
    """FAKE_EXIT_AFTER_S: abort (SIGABRT) that long after the start; None: never."""


def read_options(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Options:
    """Return the options of this command line and environment."""
    exit_after = environ.get("FAKE_EXIT_AFTER_S")
    model = _value(argv, "fake.gguf", "-m", "--model")
    return Options(
        host=_value(argv, "127.0.0.1", "--host", "-H"),
        port=int(_value(argv, "8080", "--port", "-p")),
        model=_value(argv, model.rsplit("/", 1)[-1], "-a", "--alias"),
        slots=max(1, int(_value(argv, "4", "-np", "--parallel"))),
        context=int(_value(argv, "4096", "-c", "--ctx-size")) or 4096,
        load_s=float(environ.get("FAKE_LOAD_S", "0")),
        load_fails=environ.get("FAKE_LOAD_FAILS", "") not in ("", "0"),
        token_interval_s=float(environ.get("FAKE_TOKEN_INTERVAL_S", "0")),
        close_after_stream=environ.get("FAKE_CLOSE_AFTER_STREAM", "1") != "0",
        ignore_term=environ.get("FAKE_IGNORE_TERM", "") not in ("", "0"),
        exit_after_s=float(exit_after) if exit_after else None,
    )


def _value(argv: Sequence[str], default: str, *names: str) -> str:
    """Return the last value given for one of `names`, as llama.cpp does, else `default`."""
    found = default
    for index, word in enumerate(argv[:-1]):
        if word in names:
            found = argv[index + 1]
    return found
