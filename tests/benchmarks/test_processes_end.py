"""What a benchmark started ends with it, also when it is killed and can stop nothing itself."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.conftest import REPO

STARTER = """
import sys, time
from pathlib import Path
from benchmarks.process import start
print(start([sys.executable, "-c", "import time; time.sleep(60)"], Path(sys.argv[1])).pid, flush=True)
time.sleep(60)
"""


def test_killed_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "log")], stdout=subprocess.PIPE, cwd=REPO
    ) as benchmark:
        assert benchmark.stdout is not None
        started = psutil.Process(int(benchmark.stdout.readline()))
        assert started.is_running()
        benchmark.kill()
    assert psutil.wait_procs([started], timeout=10)[1] == []
