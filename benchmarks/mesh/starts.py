"""Scenario 13, for minutes: what others do starts no engine, and each changed outcome starts exactly one.

Two hosts with three engines between them; visitors join, are killed and leave, another host of a served model
comes and goes, gossip and heartbeats run. Now and then a model is dropped and loaded again: that, and that
alone, starts an engine.
"""

import time
from dataclasses import dataclass

from benchmarks.mesh.stage import Stage, hosts, lists, stage
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from tests.e2e.mesh_processes import wait_state
from tests.e2e.node_process import NodeProcess

KEYS = ("mesh_starts", "mesh_starts_changes", "mesh_starts_others")
CHANGE_EVERY = 4
"""Rounds of visitors between two changes of an outcome."""
REGOSSIP_S = 2.5
"""After a change the nodes get longer than the settle time to do something that they should not."""


@dataclass(slots=True)
class _Count:
    changes: int = 0
    others: int = 0
    visitor_starts: int = 0
    """Engines that visitors with a model of their own started, beyond one each."""


def measure_starts(plan: Plan, results: Results, ground: Ground) -> None:
    """Count the engine starts of both hosts against what they should have been."""
    count = _Count()
    with stage(ground) as made:
        a = made.host("box-a", "--model", "tiny")
        words = ("--model", "tiny", "--model", "draft", "--serve-all")
        b = made.host("box-b", *words, join=made.nodes.token("box-a"))
        a.wait_for(lambda: lists(a, "draft") and hosts(a, "tiny") == 2, "both models")
        engine = a.engine_process().pid
        until_s = time.monotonic() + plan.stability_s
        number = 0
        while time.monotonic() < until_s:
            _visit(made, a, number, count)
            if number % CHANGE_EVERY == CHANGE_EVERY - 1:
                _change(a, b, count)
            number += 1
        time.sleep(REGOSSIP_S)
        extra = _starts(a) - 1 + _starts(b) - 2 - count.changes + count.visitor_starts
        extra += a.engine_process().pid != engine
    for key, value in zip(KEYS, (extra, count.changes, count.others), strict=True):
        results.add(key, OURS, 0, value)


def _starts(node: NodeProcess) -> int:
    return int(node.status()["engine"]["starts"])


def _visit(made: Stage, a: NodeProcess, number: int, count: _Count) -> None:
    """Let somebody come, and go in one of three ways."""
    serving = number % 3 == 2
    words = ("--model", "tiny", "--models-dir", str(made.models)) if serving else ()
    visitor = made.nodes.start("visitor", *words, join=made.nodes.token("box-a"))
    wait_state(a, "visitor", "alive")
    if serving:
        a.wait_for(lambda: hosts(a, "tiny") == 3, "the third host")
        time.sleep(REGOSSIP_S)
        count.visitor_starts += _starts(visitor) - 1
    if number % 2:
        visitor.kill()
        wait_state(a, "visitor", "dead")
    else:
        visitor.process.terminate()
        visitor.wait_exit()
        wait_state(a, "visitor", "left")
    count.others += 2


def _change(a: NodeProcess, b: NodeProcess, count: _Count) -> None:
    """Drop a model from another node and load it again on its host: two outcomes, one engine start."""
    assert a.command("drop", "draft").returncode == 0
    a.wait_for(lambda: not lists(a, "draft"), "the drop")
    assert b.command("load", "draft").returncode == 0
    a.wait_for(lambda: lists(a, "draft"), "the model again")
    count.changes += 1
