"""Runs the targets and judges: nothing accepted, nothing grown."""

import asyncio
import gc
import random
from collections import Counter
from dataclasses import dataclass, field

import psutil

from tests.fuzz.byte_targets import byte_targets
from tests.fuzz.handshake_target import HandshakeTarget
from tests.nodes.link_lab import lab

HANDSHAKE_SHARE = 0.05
GROWTH_MAX_BYTES = 16 << 20
WARM_UP = 0.2
"""This part of the run comes before memory is looked at: caches and pools fill first."""


@dataclass
class Outcome:
    """What a run found."""

    seed: int
    tried: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    grown_bytes: int = 0
    half_open_max: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    left_over: int = 0
    """Connections and tasks still there at the end."""

    @property
    def good(self) -> bool:
        clean = not self.accepted and not self.left_over
        return clean and self.grown_bytes <= GROWTH_MAX_BYTES


async def run(frames: int, seed: int) -> Outcome:
    """Return what `frames` hostile inputs did; the same seed tries the same inputs but for keys."""
    dice = random.Random(seed)
    outcome = Outcome(seed)
    targets = byte_targets()
    async with lab() as made:
        handshakes = await HandshakeTarget.start(made)
        rss_bytes = 0
        for number in range(frames):
            if number == int(frames * WARM_UP):
                rss_bytes = _rss_bytes()
            if dice.random() < HANDSHAKE_SHARE:
                outcome.tried["handshakes"] += 1
                outcome.accepted["handshakes"] += handshakes.try_one(dice)
            else:
                target = dice.choices(targets, [t.weight for t in targets])[0]
                outcome.tried[target.name] += 1
                outcome.accepted[target.name] += target.try_one(dice)
            if number % 100 == 0:
                await asyncio.sleep(0)
                half_open = len(handshakes.listener.half_open)
                outcome.half_open_max = max(outcome.half_open_max, half_open)
        outcome.grown_bytes = _rss_bytes() - rss_bytes
        await _settle(handshakes)
        outcome.left_over = len(handshakes.listener.accepted) + len(handshakes.listener._protocols)
        outcome.tried["packets"] = handshakes.packets
        outcome.counters = handshakes.node.transport.counters.snapshot()
        for target in targets:
            outcome.counters |= target.counters()
        handshakes.stop()
    outcome.accepted = Counter({name: n for name, n in outcome.accepted.items() if n})
    return outcome


async def _settle(handshakes: HandshakeTarget) -> None:
    """Wait until every handshake has timed out and drained, at most some seconds."""
    for _ in range(400):
        if not handshakes.listener._protocols:
            return
        handshakes.out.sent.clear()
        await asyncio.sleep(0.02)


def _rss_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
