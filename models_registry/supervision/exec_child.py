"""Becomes the engine: ``python -I -S exec_child.py PARENT_PID PROGRAM ARGS...``.

Asks Linux to kill this process when its parent dies (PR_SET_PDEATHSIG outlives the exec), checks
that the parent did not die before that, then replaces itself by the program; the pid stays.

Why a wrapper and not `preexec_fn`: the node has threads, and Python code between fork and exec may
wait for ever on a lock that some other thread held at the fork; without `preexec_fn` CPython also
uses vfork, which does not copy the node's page tables. The signal is sent when the *thread* that
forked ends, so the node spawns from its main thread only (`ChildProcess`). Costs one bare
interpreter start, about 20 ms. Elsewhere than on Linux it only checks the parent: the guard is the
belt there.

SIGPIPE stays ignored in the program, as Python has it: an rpc-server whose client went away while it
was stopped would otherwise die of it.
"""

import os
import signal
import sys

CANNOT_RUN = 127
"""Exit code when the program could not be started, as a shell has it."""
PARENT_GONE = 126
"""Exit code when the node died while this was starting: nobody is left to read it."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent's spawning thread ends; Linux only."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # An interpreter without ctypes: the guard and the next boot's reaping still hold.
        return


def main(argv: list[str]) -> int:
    """Replace this process by ``argv[1:]``; return an exit code only where that was impossible."""
    parent, program = int(argv[0]), argv[1:]
    if parent:
        die_with_parent()
        if os.getppid() != parent:
            return PARENT_GONE
    try:
        os.execv(program[0], program)  # noqa: S606 - a list, no shell
    except OSError as fault:
        os.write(2, f"cannot run {program[0]}: {fault.strerror}\n".encode())
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
