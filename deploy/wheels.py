"""The locked requirements as wheels for this machine, by the pip that is configured here.

Each is checked against requirements.txt as it comes (`--require-hashes`). What pip had to build has
another hash than the lock's, so the bundle carries a list of its own: these very files.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from packaging.utils import parse_wheel_filename

from deploy.faults import BundleFailed

TIMEOUT_S = 900.0
"""For all of them: 5 s with a warm cache, a minute without."""
LIST_NAME = "requirements.txt"
_NEXT = "Check the network and pip's settings, then run make bundle again."


def bring(requirements: Path, into: Path) -> list[Path]:
    """Return the wheels of `requirements`, brought into the folder `into`, sorted by name.

    Raises:
        BundleFailed: pip could not bring them, or not in time.
    """
    into.mkdir()
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-input"]
    argv += ["--no-deps", "--require-hashes", "-r", str(requirements), "-w", str(into)]
    try:
        done = subprocess.run(
            argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BundleFailed(f"pip took over {TIMEOUT_S:g} s and was ended. {_NEXT}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = said[-1] if said else done.stderr.strip()[-300:]
        raise BundleFailed(f"pip could not bring the wheels: {why.rstrip('.')}. {_NEXT}")
    found = sorted(into.glob("*.whl"))
    if not found:
        raise BundleFailed(f"pip brought no wheel for {requirements}. {_NEXT}")
    return found


def pin(wheels: list[Path]) -> str:
    """Return the requirements file that takes exactly these files."""
    lines = []
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)
