"""Why an engine ended, as one sentence a person can act on. Pure.

Decides from the return code and the engine's own last lines. Knows llama.cpp's words (builds 0.5 to
0.7); where none fits, the engine's first error line is quoted as it is.
"""

import re
import signal

MAX_QUOTE_CHARS = 300
CANNOT_RUN = 127
"""The wrapper's exit code when the program could not be started (`exec_child`)."""
_STAMP = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3}\s+(?:[A-Z]\s+)?")
_ERROR_LINE = re.compile(
    r"^(?:\d+\.\d\d\.\d{3}\.\d{3}\s+E\s|error:|error while handling argument|terminate called|cannot run )",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|out of memory|cannot allocate memory|ENOMEM|failed to allocate|cudaMalloc failed"
    r"|ErrorOutOfDeviceMemory|unable to allocate",
    re.IGNORECASE,
)
_PORT_BUSY = re.compile(r"couldn't bind|address already in use", re.IGNORECASE)
_UNKNOWN_FLAG = re.compile(r"invalid argument:\s*(\S+)|unknown argument:\s*(\S+)", re.IGNORECASE)
_BROKEN_MODEL = re.compile(
    r"error loading model|invalid magic|failed to open GGUF|corrupted or incomplete|failed to load model",
    re.IGNORECASE,
)
_SPLIT_LOST = re.compile(r"ggml-rpc|rpc server|failed to connect to \S+:\d+", re.IGNORECASE)
_CPU = "this build does not fit this machine's processor; install one made for it (mesh-llm engine install)"


def port_was_busy(lines: list[str]) -> bool:
    """Return whether the engine ended because somebody took its port first: worth another port."""
    return any(_PORT_BUSY.search(line) for line in lines)


def bare(line: str) -> str:
    """Return the line without the engine's time stamp and level, cut to a quotable length."""
    return _STAMP.sub("", line).strip()[:MAX_QUOTE_CHARS]


def _first(pattern: re.Pattern[str], lines: list[str]) -> str | None:
    return next((bare(line) for line in lines if pattern.search(line)), None)


def exit_reason(what: str, returncode: int, lines: list[str]) -> str:
    """Return why `what` (such as ``llama-server for smollm2``) ended, in one sentence.

    `lines` are the last lines of this run, oldest first; `returncode` is negative for a signal.
    """
    return _known_words(what, returncode, lines) or _known_code(what, returncode, lines)


def _known_words(what: str, returncode: int, lines: list[str]) -> str | None:
    flag = next((found for line in lines if (found := _UNKNOWN_FLAG.search(line))), None)
    if flag:
        name = flag.group(1) or flag.group(2)
        fit = "this llama.cpp is too old or too new (mesh-llm engine show)"
        return f"{what} does not know the flag {name}: {fit}"
    if port_was_busy(lines):
        return f"{what} could not open its port: another process took it first"
    if memory := _first(_OUT_OF_MEMORY, lines):
        return f"{what} ran out of memory ({memory}): use a smaller --ctx-size, --parallel or model"
    if model := _first(_BROKEN_MODEL, lines):
        return f"{what} could not load the model: {model}"
    if returncode == -signal.SIGABRT and (split := _first(_SPLIT_LOST, lines)):
        return f"{what} lost its split: an rpc-server is gone ({split})"
    return None


def _known_code(what: str, returncode: int, lines: list[str]) -> str:
    last = _first(_ERROR_LINE, lines)
    said = f": {last}" if last else ""
    match returncode:
        case 0:
            return f"{what} ended by itself, without an error{said}"
        case -9:
            return (
                f"{what} was killed (signal 9), most likely by the system for lack of memory{said}"
            )
        case -6:
            return f"{what} aborted (signal 6){said or ': in a split this means an rpc-server is gone'}"
        case -4:
            return f"{what} met an instruction it cannot run (signal 4): {_CPU}"
        case 127:
            return f"{what} could not be started{said}"
        case code if code < 0:
            return f"{what} was ended by signal {-code} ({_signal_name(-code)}){said}"
        case code:
            return (
                f"{what} ended with code {code}{said or (': ' + bare(lines[-1]) if lines else '')}"
            )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
