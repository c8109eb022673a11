"""`make setup` in a fresh clone, and again; asked for by `--setup`, since it downloads what it needs."""

import subprocess
import time
from pathlib import Path

from benchmarks.process import REPO
from benchmarks.results import Results
from benchmarks.target import OURS

LIMIT_S = 900


def measure_setup(results: Results, scratch: Path) -> None:
    """Clone what is committed, run `make setup` twice and keep both times."""
    clone = scratch / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(REPO), str(clone)], check=True)
    for key in ("setup_first", "setup_again"):
        began_s = time.monotonic()
        try:
            done = subprocess.run(
                ["make", "setup"], cwd=clone, capture_output=True, timeout=LIMIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            results.excuse(key, OURS, f"make setup did not run: {type(error).__name__}")
            return
        took_s = time.monotonic() - began_s
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
            results.excuse(key, OURS, f"make setup failed: {last[0][:120]}")
            return
        print(f"make setup {'from nothing' if key == 'setup_first' else 'again'}: {took_s:.1f} s")
        results.add(key, OURS, 0, took_s)
