"""The machine and the versions, as far as a reader of the table needs them: no host name, no path."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_LIBRARIES = ("uvicorn", "uvloop", "httptools", "daphne", "Django", "channels")


def describe_machine() -> dict[str, str]:
    """Return cores, memory, CPU model, system and Python."""
    return {
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "CPU": _cpu_model(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load before": ", ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def describe_versions(engine: Path | None) -> dict[str, str]:
    """Return the versions of Python, of the libraries on the hot path and of the engine."""
    found = {"Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if engine is not None:
        said = subprocess.run(
            [f"{engine}/llama-server", "--version"], capture_output=True, text=True
        )
        for line in (said.stdout + said.stderr).splitlines():
            if line.startswith("version:"):
                found["llama.cpp"] = line.removeprefix("version:").strip()
    return found


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
