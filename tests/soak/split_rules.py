"""What must be so once machines that share a model have come to rest, and what their histories must say."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.node_process import NodeProcess
from tests.e2e.split_mesh import layout, ready_answer

MODEL = "split"
CHANGES = frozenset(
    {"model_wanted", "split_planned", "split_lost", "split_ended", "engine_exited", "model_left"}
)
"""Kinds of events that change how this node is to run its model: each allows one start of an engine."""


@dataclass(frozen=True, slots=True)
class Box:
    """A machine as it was started."""

    memory_gb: float
    forced: bool

    @property
    def can_hold(self) -> bool:
        """Return whether it could serve the model alone."""
        return self.memory_gb > 0.2

    def words(self) -> tuple[str, ...]:
        """Return its flags."""
        return ("--max-vram", f"{self.memory_gb:g}", *(("--split",) if self.forced else ()))


def trouble(nodes: Mapping[str, NodeProcess], boxes: Mapping[str, Box]) -> str:
    """Return what is not yet as the election wants it for who is there; empty: all is.

    `nodes` are those that live. A model that waits, or is served alone, because a worker flapped and is
    left out for a time is as it should be.
    """
    layouts = {name: layout(node) for name, node in nodes.items()}
    found = {name: lay.names for name, lay in layouts.items() if lay is not None}
    split = {name: names for name, names in found.items() if len(names) > 1}
    alone = {name for name in found if name not in split}
    able = {name for name, box in boxes.items() if name in nodes and box.can_hold}
    forced = any(boxes[name].forced for name in nodes)
    if split:
        return _of_the_split(nodes, split, alone, able, forced)
    if able and (not forced or len(nodes) == 1 or _left_out(nodes)):
        return "" if alone == able else f"served alone by {sorted(alone)}, not by {sorted(able)}"
    if able:
        return f"{sorted(nodes)} are to split it, and {sorted(alone)} serve it alone"
    if alone:
        return f"{sorted(alone)} serve alone what does not fit there"
    if len(nodes) > 1 and not _left_out(nodes):
        return f"{sorted(nodes)} could split it, and nobody serves it"
    return _all_wait(nodes)


def _of_the_split(
    nodes: Mapping[str, NodeProcess],
    split: Mapping[str, tuple[str, ...]],
    alone: set[str],
    able: set[str],
    forced: bool,
) -> str:
    if able and not forced:
        return f"split by {sorted(split)} though {sorted(able)} could hold it alone"
    if len(split) > 1 or alone:
        return f"split by {sorted(split)} and served alone by {sorted(alone)}"
    (names,) = split.values()
    gone = [name for name in names if name not in nodes]
    idle = [n for n in names[1:] if n in nodes and nodes[n].status()["role"] != "worker"]
    return f"a split over {names}: gone {gone}, not working {idle}" if gone or idle else ""


def _left_out(nodes: Mapping[str, NodeProcess]) -> bool:
    told = (node.command("why", MODEL).stdout for node in nodes.values())
    return any("left out for" in text for text in told)


def _all_wait(nodes: Mapping[str, NodeProcess]) -> str:
    for name, node in nodes.items():
        reasons = [m["reason"] or "" for m in node.status()["mesh_models"]]
        if not any("Waiting for more peers" in reason for reason in reasons):
            return f"{name} does not say what it waits for: {reasons}"
    return ""


def unanswered(nodes: Mapping[str, NodeProcess], max_s: float) -> str:
    """Ask every node, if anybody serves; return who did not answer."""
    if not any(layout(node) for node in nodes.values()):
        return ""
    for name, node in nodes.items():
        try:
            ready_answer(node, max_s)
        except AssertionError as fault:
            return f"{name} does not answer: {fault}"
    return ""


@dataclass(frozen=True, slots=True)
class History:
    """What a node's own history says of its engines, over all its lives."""

    starts: int
    changes: int
    without_reason: tuple[str, ...]
    """Starts before which nothing had changed since the one before."""


def history(home: Path) -> History:
    """Read the events that a node has kept. The node must have ended."""
    opened = sqlite3.connect(f"file:{home / 'db.sqlite3'}?mode=ro", uri=True)
    try:
        rows = opened.execute("select kind, text from nodes_meshevent order by id").fetchall()
    finally:
        opened.close()
    starts, changes, since, wrong = 0, 0, 0, []
    for kind, text in rows:
        if kind in CHANGES:
            changes, since = changes + 1, since + 1
        elif kind == "engine_starting":
            starts += 1
            if not since:
                wrong.append(text)
            since = 0
    return History(starts, changes, tuple(wrong))
