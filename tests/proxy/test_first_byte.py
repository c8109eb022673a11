"""A host that falls silent before its first byte: when the next is asked, and when nobody is to be."""

import asyncio
import time
from dataclasses import replace

import pytest

from nodes.mesh import routing_patience
from nodes.mesh.routing import ModelState
from proxy.openai import FaultKind
from proxy.upstream import UpstreamTrouble
from tests.fakes.peer_hosts import Answers, FakeHosts, Hangs
from tests.nodes.mesh.routing_lab import host
from tests.proxy.conftest import eventually
from tests.proxy.walk_lab import Lab

A = host(1, slots=1_024)
B = host(2)
PATIENCE_S = 0.3


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_patience, "LATE_PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(routing_patience, "LAST_RESORT_FIRST_BYTE_S", 2 * PATIENCE_S)


def lab(*hosts: object, **more: object) -> Lab:
    fakes = FakeHosts()
    fakes.does(A, Hangs())
    return Lab(list(hosts), fakes, **more)  # type: ignore[arg-type]


async def asked(here: Lab, *, of: str = "box-1") -> "asyncio.Task[str]":
    task = asyncio.create_task(here.ask())
    await eventually(lambda: here.fakes.asked[of])
    return task


async def test_host_declared_dead_is_left_at_once_and_the_next_answers() -> None:
    here = lab(A, B)
    task = await asked(here)
    began_s = time.monotonic()
    here.remove(A)
    assert await task == "box-2"
    assert time.monotonic() - began_s < PATIENCE_S
    assert here.fakes.story == ["ask box-1", "left box-1", "ask box-2", "end box-2"]
    assert here.failed == [("box-1", UpstreamTrouble.GONE)]


async def test_host_that_turns_late_is_left_after_the_patience() -> None:
    here = lab(A, B)
    task = await asked(here)
    began_s = time.monotonic()
    here.change(A, rank_last=True)
    assert await task == "box-2"
    assert PATIENCE_S <= time.monotonic() - began_s < PATIENCE_S + 1
    assert here.failed == [("box-1", UpstreamTrouble.SILENT)]


async def test_long_prompt_on_a_healthy_host_is_waited_for() -> None:
    here = lab(A, B)
    here.fakes.does(A, Answers(after_s=4 * PATIENCE_S))
    assert await here.ask() == "box-1"
    assert here.failed == []


async def test_short_stall_of_a_host_does_not_end_its_request() -> None:
    here = lab(A, B)
    here.fakes.does(A, Answers(after_s=4 * PATIENCE_S))
    task = await asked(here)
    here.change(A, rank_last=True)
    await asyncio.sleep(PATIENCE_S / 2)
    here.change(A)
    assert await task == "box-1"


async def test_last_resort_gets_a_short_deadline_and_the_client_is_told() -> None:
    late = replace(A, rank_last=True)
    here = lab(late)
    began_s = time.monotonic()
    fault, _ = await here.refused()
    assert 2 * PATIENCE_S <= time.monotonic() - began_s < 2 * PATIENCE_S + 1
    assert fault.kind is FaultKind.UPSTREAM_SLOW
    assert "box-1" in fault.message and "gave no sign of life" in fault.message


async def test_suspect_host_is_asked_only_after_all_others_failed() -> None:
    late = replace(A, rank_last=True)
    here = lab(late, B)
    here.fakes.does(B, Answers())
    assert await here.ask() == "box-2"
    assert here.fakes.story == ["ask box-2", "end box-2"]


async def test_suspect_host_that_recovers_answers_though_it_takes_longer_than_the_deadline() -> (
    None
):
    late = replace(A, rank_last=True)
    here = lab(late)
    here.fakes.does(late, Answers(after_s=4 * PATIENCE_S))
    task = await asked(here)
    here.change(A)
    assert await task == "box-1"


async def test_only_host_that_turns_late_is_waited_for_until_it_is_declared_dead() -> None:
    here = lab(A)
    task = await asked(here)
    here.change(A, rank_last=True)
    await asyncio.sleep(4 * PATIENCE_S)
    assert not task.done()
    here.remove(A)
    with pytest.raises(Exception, match="left the mesh"):
        await task


async def test_other_hosts_that_are_late_too_are_no_reason_to_give_up() -> None:
    here = lab(A, host(2, rank_last=True))
    task = await asked(here)
    here.change(A, rank_last=True)
    await asyncio.sleep(4 * PATIENCE_S)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_host_whose_engine_went_away_is_left_at_once() -> None:
    here = lab(A, B)
    task = await asked(here)
    here.change(A, state=ModelState.LOADING)
    assert await task == "box-2"


async def test_silent_link_gives_up_a_host_that_nobody_probes() -> None:
    """A passive client has no gossip: its link's keep-alives are the sign of life."""
    silent = routing_patience.LINK_SILENT_S + 1
    here = lab(A, B, silence_s=lambda node_id: silent if node_id == A.node_id else 0.1)
    assert await here.ask() == "box-2"
    assert here.failed == [("box-1", UpstreamTrouble.SILENT)]


async def test_client_that_leaves_at_the_same_moment_leaves_no_one_waiting() -> None:
    here = lab(A, B)
    task = await asked(here)
    here.remove(A)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert here.in_flight() == [0, 0]
    assert here.fakes.open_now.total() == 0


async def test_nothing_ticks_while_nobody_waits() -> None:
    here = lab(A, B)
    task = await asked(here)
    here.remove(A)
    await task
    await asyncio.sleep(0.25)
    assert here.ways.watch._timer is None
