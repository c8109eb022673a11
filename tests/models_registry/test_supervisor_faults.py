"""Engine faults that a real engine does not show on demand: each becomes one truthful ServerExited."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from models_registry.supervision.hang_watch import HangLimits
from nodes.mesh.events import ServerExited, ServerReady
from nodes.mesh.ids import RunId
from tests.models_registry.supervising import QUICK, Scripted, gone, plan, supervising, until

FAST = HangLimits(check_interval_s=0.1, silent_bound_s=0.6, busy_bound_s=3.0, token_interval_s=0.2)


async def test_missing_program_never_started(tmp_path: Path) -> None:
    async with supervising(Scripted(program="/no/llama-server"), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (None, False)
        assert "could not be started" in end.reason and "/no/llama-server" in end.reason


async def test_busy_port_is_tried_again_on_another(tmp_path: Path) -> None:
    async with supervising(Scripted("--busy-once", tmp_path / "was"), tmp_path) as (
        supervisor,
        reports,
    ):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        assert (tmp_path / "was").exists()


async def test_port_that_stays_busy_is_said(tmp_path: Path) -> None:
    commands = Scripted("--say", "couldn't bind HTTP server socket\\n", "--exit", "1")
    async with supervising(commands, tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        assert end.returncode == 1 and "port" in end.reason


async def test_unknown_flag_is_named(tmp_path: Path) -> None:
    commands = Scripted("--say", "error: invalid argument: --nonsense\\n", "--exit", "1")
    async with supervising(commands, tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        assert "--nonsense" in (await reports.wait_for(ServerExited)).reason


async def test_engine_that_answers_no_token_is_not_ready_and_killed(tmp_path: Path) -> None:
    async with supervising(Scripted("--token-status", "500"), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        assert end.asked is False and "500" in end.reason
        assert supervisor.pids() == ()
    assert reports.count(ServerReady) == 0


async def test_stop_right_behind_a_start_ends_the_run(tmp_path: Path) -> None:
    async with supervising(Scripted(), tmp_path) as (supervisor, reports):
        starting = asyncio.create_task(supervisor.start(plan()))
        await asyncio.sleep(0)
        assert supervisor.guard_pid is None, "the guard is not there yet"
        async with asyncio.timeout(20):
            await supervisor.stop(RunId(1), 0.2)
        await starting
        assert [type(event) for event in reports.events][-1] is ServerExited
        assert supervisor.pids() == ()


async def test_engine_deaf_to_term_is_killed(tmp_path: Path) -> None:
    async with supervising(Scripted("--deaf-to-term"), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        ready = await reports.wait_for(ServerReady)
        async with asyncio.timeout(10):
            await supervisor.stop(RunId(1), 0.2)
        assert gone(ready.pid)
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (-signal.SIGKILL, True)


async def test_stop_waits_for_a_working_slot_and_ends_when_it_is_idle(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    async with supervising(Scripted("--busy-slots-while", busy), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        ready = await reports.wait_for(ServerReady)
        busy.touch()
        stopping = asyncio.create_task(supervisor.stop(RunId(1), 60))
        await asyncio.sleep(0.5)
        assert not stopping.done() and not gone(ready.pid)
        busy.unlink()
        async with asyncio.timeout(10):
            await stopping


async def test_shorter_grace_asked_later_wins(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.touch()
    async with supervising(Scripted("--busy-slots-while", busy), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        patient = asyncio.create_task(supervisor.stop(RunId(1), 600))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            await supervisor.close(0.1)
            await patient
    assert reports.count(ServerExited) == 1


async def test_silent_engine_that_works_is_left_alone_until_the_longer_bound(
    tmp_path: Path,
) -> None:
    silent = tmp_path / "silent"
    commands = Scripted("--silent-when", silent, "--spin")
    async with supervising(commands, tmp_path, FAST) as (supervisor, reports):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        loop = asyncio.get_running_loop()
        silent.touch()
        began_s = loop.time()
        end = await reports.wait_for(ServerExited, timeout_s=20)
        assert loop.time() - began_s >= FAST.busy_bound_s - 0.5
        assert "busy without an answer" in end.reason


async def test_silent_idle_engine_is_ended_within_the_bound(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    async with supervising(Scripted("--silent-when", silent), tmp_path, QUICK) as (
        supervisor,
        reports,
    ):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        silent.touch()
        end = await reports.wait_for(ServerExited, timeout_s=15)
        assert "did not answer and did nothing" in end.reason and end.asked is False


async def test_flowing_tokens_keep_a_silent_engine_alive(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    async with supervising(Scripted("--silent-when", silent), tmp_path, QUICK) as (
        supervisor,
        reports,
    ):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        silent.touch()
        for _ in range(40):
            supervisor.note_activity("tiny")
            await asyncio.sleep(0.1)
        assert reports.count(ServerExited) == 0
        silent.unlink()


async def test_engine_without_slots_is_asked_for_a_token_instead(tmp_path: Path) -> None:
    async with supervising(Scripted("--slots-status", "501"), tmp_path, FAST) as (
        supervisor,
        reports,
    ):
        await supervisor.start(plan())
        await reports.wait_for(ServerReady)
        await asyncio.sleep(1.5)
        assert reports.count(ServerExited) == 0


async def test_hostile_output_is_bounded_and_printable(tmp_path: Path) -> None:
    hostile = "\\x1b[2J\\xff\\x00<script>\\n" + "x" * 5000 + "\\nno end"
    async with supervising(Scripted("--say", hostile, "--exit", "3"), tmp_path) as (
        supervisor,
        reports,
    ):
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        first, lines = supervisor.logs.tail("tiny", 0, 10)
    assert first == 1 and len(lines) == 3
    assert lines[0] == "\\x1b[2J\\xff\\x00<script>"
    assert len(lines[1]) < 2100 and lines[1].endswith("[cut]")
    assert lines[2] == "no end"
    assert end.returncode == 3 and "no end" in end.reason


async def test_start_after_close_is_refused_by_a_report(tmp_path: Path) -> None:
    async with supervising(Scripted(), tmp_path) as (supervisor, reports):
        await supervisor.close(0)
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        assert end.asked and end.returncode is None


async def test_stop_right_after_start_leaves_nothing(tmp_path: Path) -> None:
    async with supervising(Scripted(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        await supervisor.stop(RunId(1), 30)
        assert (await reports.wait_for(ServerExited)).asked
        assert supervisor.pids() == ()


async def test_killed_guard_is_replaced_and_knows_the_children(tmp_path: Path) -> None:
    async with supervising(Scripted(), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        ready = await reports.wait_for(ServerReady)
        first = supervisor.guard_pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.guard_pid not in (None, first))
        assert not gone(ready.pid)
        assert reports.count(ServerExited) == 0


@pytest.mark.parametrize("code", [0, 7])
async def test_engine_that_ends_by_itself_is_not_asked(tmp_path: Path, code: int) -> None:
    async with supervising(Scripted("--exit", str(code)), tmp_path) as (supervisor, reports):
        await supervisor.start(plan())
        end = await reports.wait_for(ServerExited)
        assert (end.returncode, end.asked) == (code, False)


async def test_stop_that_overtakes_the_start_still_ends_the_run(tmp_path: Path) -> None:
    async with supervising(Scripted(), tmp_path) as (supervisor, reports):
        starting = asyncio.create_task(supervisor.start(plan()))
        await asyncio.sleep(0)  # It waits for the node's first guard now.
        await supervisor.stop(RunId(1), 0)
        end = await reports.wait_for(ServerExited, 5.0)
        assert end.asked
        await starting
        assert supervisor.pids() == ()
    assert reports.count(ServerReady) == 0
    assert reports.count(ServerExited) == 1
