"""One of two hosts killed with SIGKILL while 32 clients ask through a third node, again and again.

A stream had begun on the dead host when its answer's head names that host: it must end, with its content or
with an explicit error. Everything else that was under way had not begun there, and must be answered whole.
"""

import asyncio
import time
from dataclasses import dataclass, field

from benchmarks.mesh.ask import Reply, ask
from benchmarks.mesh.stage import Stage, stage, wait_both, wait_hosts
from benchmarks.plan import Plan
from benchmarks.process import TargetFailed
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from tests.e2e.mesh_processes import wait_state
from tests.e2e.node_process import NodeProcess

KEYS = ("mesh_kill_failed", "mesh_kill_mute", "mesh_kill_told", "mesh_kill_begun", "mesh_kill_rest")
CLIENTS = 32
BEGUN_BEFORE_KILL = 3
"""Streams that run on the host when it is killed: nearly as many as its engine has slots."""
BEFORE_KILL_S = 1.0
AFTER_KILL_S = 3.0
END_LIMIT_S = 30.0
"""A stream that has not ended so long after the last one was asked for hangs."""
BODY = {
    "model": "tiny", "prompt": "mesh", "stream": True, "max_tokens": 120, "temperature": 0,
    "ignore_eos": True,
}  # fmt: skip


@dataclass(slots=True)
class _Seen:
    failed: int = 0
    mute: int = 0
    told_s: list[float] = field(default_factory=list)
    rest: int = 0


def measure_kill(plan: Plan, results: Results, ground: Ground) -> None:
    """Kill the host so many times, behind a member and behind a client in turn."""
    seen = _Seen()
    with stage(ground) as made:
        _, dying = made.two_hosts()
        ways = (made.entry("member"), made.entry("client", client=True))
        for number in range(plan.kills):
            if number:
                dying = _back(made, ways)
            asyncio.run(_round(ways[number % 2], dying, seen))
    if not seen.told_s:
        raise TargetFailed("no stream was in flight at any kill")
    values = (seen.failed, seen.mute, max(seen.told_s), len(seen.told_s), seen.rest)
    for key, value in zip(KEYS, values, strict=True):
        results.add(key, OURS, 0, value)


def _back(made: Stage, ways: tuple[NodeProcess, ...]) -> NodeProcess:
    """Start the killed host again, and wait until both ways in know it."""
    a = made.nodes.nodes["box-a"]
    wait_state(a, "box-b", "dead")
    again = made.host("box-b", "--model", "tiny")
    wait_hosts(a, "tiny", 2)
    for node in ways:
        wait_both(node)
    return again


async def _round(entry: NodeProcess, dying: NodeProcess, seen: _Seen) -> None:
    dying_id = (await asyncio.to_thread(dying.status))["node_id"]
    replies: list[Reply] = []
    stop = asyncio.Event()
    clients = [asyncio.create_task(_client(entry.port, replies, stop)) for _ in range(CLIENTS)]
    await asyncio.sleep(BEFORE_KILL_S)
    while sum(_runs_on(one, dying_id) for one in replies) < BEGUN_BEFORE_KILL:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    killed_s = time.monotonic()
    dying.kill()
    await asyncio.sleep(AFTER_KILL_S)
    stop.set()
    _, hung = await asyncio.wait(clients, timeout=END_LIMIT_S)
    for task in hung:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    for one in replies:
        if not one.ended_s or one.ended_s > killed_s:
            _judge(one, one.node == dying_id and one.sent_s <= killed_s, killed_s, seen)


async def _client(port: int, replies: list[Reply], stop: asyncio.Event) -> None:
    while not stop.is_set():
        reply = Reply(time.monotonic())
        replies.append(reply)
        await ask(port, "/v1/completions", BODY, reply)


def _runs_on(one: Reply, node_id: str) -> bool:
    return one.node == node_id and bool(one.body) and not one.ended_s


def _judge(one: Reply, begun: bool, killed_s: float, seen: _Seen) -> None:
    if not begun:
        seen.rest += 1
        seen.failed += not one.done
    elif one.ended_s and (one.done or one.told):
        seen.told_s.append(one.ended_s - killed_s)
    else:
        seen.mute += 1
