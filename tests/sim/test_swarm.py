"""Random faults on small meshes: nothing false, nothing lost, and the same seed gives the same run."""

import os
import subprocess
import sys

import pytest

from tests.sim.swarm import Swarm


@pytest.mark.parametrize("seed", range(1, 13))
def test_swarm_of_seeds_finds_nothing(seed: int) -> None:
    swarm = Swarm(seed)
    assert swarm.run() == [], swarm.report()


def test_same_seed_gives_the_same_trace_in_another_process() -> None:
    code = (
        "from tests.sim.swarm import Swarm; s = Swarm(3); s.run(); print(s.cluster.network.trace)"
    )
    traces = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert len(traces) == 1 and traces != {""}
