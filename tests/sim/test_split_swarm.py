"""Random meshes that split, with random faults: nothing computed twice, nobody forgotten. The checks are
worth something: they find each bug that is put in."""

from collections.abc import Iterable
from typing import Any

import pytest

from nodes.mesh.split_host import SplitHost
from nodes.mesh.split_worker import SplitWorker
from tests.sim.split_swarm import SplitSwarm


@pytest.mark.parametrize("seed", [1, 12, 25, 203])
def test_split_swarm_of_seeds_finds_nothing(seed: int) -> None:
    swarm = SplitSwarm(seed)
    assert swarm.run() == [], swarm.report()


def found_in(seeds: Iterable[int], word: str) -> bool:
    """Return whether one of the seeds finds this."""
    return any(word in finding for seed in seeds for finding in SplitSwarm(seed).run())


@pytest.mark.slow
def test_worker_that_does_not_hear_of_its_host_s_end_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = SplitWorker.look

    def faithful(self: SplitWorker, may_start: bool, files: object) -> object:
        if self.orders is None and self._lent is not None:
            return iter(())  # Bug: its memory stays lent to nobody.
        return sound(self, may_start, files)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitWorker, "look", faithful)
    assert found_in(range(1, 6), "lends itself to")


@pytest.mark.slow
def test_host_that_does_not_see_a_lost_worker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = SplitHost._lost

    def blind(self: SplitHost, model: object, term: Any, *shown: Any) -> object:
        return {} if term.plan is not None else sound(self, model, term, *shown)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitHost, "_lost", blind)
    assert found_in(range(1, 11), "counts on it")
