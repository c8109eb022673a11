"""The guard: a tiny process that ends the node's children when the node itself is suddenly gone.

Decides nothing but this: its standard input is a pipe whose other end only the node holds. The node
writes ``+ PID IDENTITY`` and ``- PID`` lines; when the pipe closes, for whatever reason (SIGKILL, a
crash, a clean stop), every child still listed gets TERM, then KILL, within `TERM_S` + `KILL_S`.

Runs as ``python -I -S guard.py`` (no site packages, about 9 MB, mostly shared), in its own session,
deaf to the signals a terminal or a service manager sends to a group: it ends when the node ends.
Only the standard library, and of it only cheap parts, so that this one file is also imported by
`models_registry.children` for the reaping at the next boot.

A process is told by pid *and* identity (its start time): a number that the system gave to somebody
else since is never signalled.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TERM_S = 1.0
"""How long a child has after TERM. A frozen one, or one with an open stream, does not use it."""
KILL_S = 2.0
"""How long the end of a killed child is waited for."""
POLL_S = 0.02
MAX_CHILDREN = 256
"""Children the guard remembers; a node has a handful. At the bound further ones are ignored."""
MAX_LINE_BYTES = 512
_PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """Return what tells this process from any other that ever has its number, or None if it is gone.

    Linux: start time in clock ticks since boot, with the boot's id, so that it survives neither a
    reboot nor a change of the clock wrongly. Elsewhere: what ``ps`` says of its start (to the second).
    A zombie counts as gone: it runs no more and holds nothing.
    """
    if pid <= 1:
        return None
    if not (_PROC / "self" / "stat").exists():
        return _identity_by_ps(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii")[:8]
    except OSError:
        return None
    # The command's name stands in brackets and may hold anything, brackets included.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return f"{fields[19].decode('ascii')}@{boot}"


def _identity_by_ps(pid: int) -> str | None:
    import subprocess  # only needed here, and not on Linux

    ps = subprocess.run(
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/bin:/usr/bin"},
    )
    return identity_of_ps(ps.stdout.decode("ascii", "replace")) if ps.returncode == 0 else None


def identity_of_ps(printed: str) -> str | None:
    """Return the identity in ``ps -o stat= -o lstart=``, or None when there is no running process in it."""
    words = printed.split()
    if len(words) < 2 or words[0].startswith("Z"):
        return None
    return "-".join(words[1:])


def end_processes(
    children: Iterable[tuple[int, str]], *, term_s: float = TERM_S, kill_s: float = KILL_S
) -> list[int]:
    """End these (pid, identity) pairs, TERM then KILL; return the pids that were alive and ours.

    Blocks at most `term_s` + `kill_s`. A pid whose identity differs is left alone.
    """
    mine = [(pid, known) for pid, known in children if identity(pid) == known]
    for signal_number, wait_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, kill_s)):
        alive = [(pid, known) for pid, known in mine if identity(pid) == known]
        for pid, _ in alive:
            _signal_group(pid, signal_number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            alive = [(pid, known) for pid, known in alive if identity(pid) == known]
            if not alive:
                break
            time.sleep(POLL_S)
    return [pid for pid, _ in mine]


def _signal_group(pid: int, signal_number: int) -> None:
    """Signal the child and, where it leads a group (all of ours do), the group."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal_number)
        else:
            os.kill(pid, signal_number)
    except ProcessLookupError:
        return
    except PermissionError:
        # A child that changed its user is no longer ours to end.
        return


def follow(lines: Iterable[bytes], children: dict[int, str]) -> None:
    """Apply the node's ``+`` and ``-`` lines to `children` until they end. Nonsense is ignored."""
    for line in lines:
        words = line[:MAX_LINE_BYTES].decode("ascii", "replace").split()
        if len(words) < 2 or not words[1].isdecimal():
            continue
        pid = int(words[1])
        if words[0] == "+" and len(words) == 3 and len(children) < MAX_CHILDREN:
            children[pid] = words[2]
        elif words[0] == "-":
            children.pop(pid, None)


def _ignore_group_signals() -> None:
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "SIGPIPE",
        "SIGTSTP",
        "SIGUSR1",
        "SIGUSR2",
    ):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def _pipe_lines(read: Callable[[int, int], bytes] = os.read) -> Iterable[bytes]:
    """Yield the lines of standard input; an unfinished last line is not one."""
    rest = b""
    while chunk := read(0, 4096):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:MAX_LINE_BYTES]
        yield from lines


def main() -> int:
    """Follow the node until its end of the pipe closes, then end what it left behind."""
    _ignore_group_signals()
    children: dict[int, str] = {}
    # The node waits for this line: from here on its sudden death is noticed.
    os.write(1, b"guarding\n")
    follow(_pipe_lines(), children)
    end_processes(children.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
