"""A short story of `tests.soak.splits`: machines harmed at random; `make soak` tells 100."""

from pathlib import Path

import pytest

from tests.soak.splits import soak

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]


def test_six_harms_to_four_machines_each_come_to_rest_and_leave_nothing(
    tmp_path: Path, engine_dir: Path
) -> None:
    found = soak(tmp_path, engine_dir, kills=6, seed=2)
    assert sum(lines.starts for lines in found.values()) >= 4
