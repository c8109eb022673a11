"""The `wan` profile's own figures: detection, false deaths, leaving, healing, cost, over a continent's paths.

Bounds follow from the profile: a round of probes of 2 s each, a timeout of 1 s, a suspicion of 12 s (mult 6
x 2 s), verified inside it; remembered dead are dialled every 30 s.
"""

from functools import partial

from nodes.mesh.config import wan
from tests.sim.cluster import Cluster
from tests.sim.measured import (
    Row,
    healing_time,
    kill_times,
    leave_time,
    payload_rate,
    percentile,
    slowest,
)
from tests.sim.parts import Faults

PATHS = Faults(loss=0.02, delay_s=0.08, jitter_s=0.04, reordering=0.05)
"""One way 80 to 120 ms, 2 % lost: between continents on an ordinary day."""
BAD_PATHS = Faults(loss=0.1, delay_s=0.15, jitter_s=0.1, reordering=0.1)


def _cluster(size: int, seed: int, faults: Faults = PATHS) -> Cluster:
    return Cluster(size, seed, Faults(**vars(faults)), config=wan())


def kills(full: bool, silent: bool) -> Row:
    dead: list[float] = []
    late: list[float] = []
    for seed in range(1, (30 if full else 8) + 1):
        cluster = _cluster(5, seed)
        cluster.run(20 + seed * 0.61)
        died, ranked = kill_times(cluster, cluster.nodes[seed % 5], silent, 40, 0.05)
        dead += died
        late += ranked
    bounds = (16.0, 24.0) if silent else (6.0, 12.0)
    d50, d99 = percentile(dead, 50), percentile(dead, 99)
    l50, l99 = percentile(late, 50), percentile(late, 99)
    return (
        f"wan, 5 nodes, kill -9, {'silent' if silent else 'port refused'}",
        f"dead p50 <= {bounds[0]:.0f} s, p99 <= {bounds[1]:.0f} s",
        f"dead {d50:.1f} / {d99:.1f} s; ranked last {l50:.1f} / {l99:.1f} s",
        d50 <= bounds[0] and d99 <= bounds[1],
    )


def quiet(full: bool) -> Row:
    """Nothing happens, on good paths and bad ones: nobody may die."""
    seconds, count = (3_600 if full else 600), 0
    for faults in (PATHS, BAD_PATHS):
        for size in (5, 20):
            cluster = _cluster(size, 3, faults)
            cluster.run(seconds)
            count += cluster.checkers.false_deaths
    wanted = "0 false deaths in 1 h: 5 and 20 nodes, 2 % and 10 % loss, 80 to 250 ms one way"
    return "wan, false deaths", wanted, f"{count} in {seconds} s each", not count


def stalls(full: bool) -> Row:
    rounds = 120 if full else 20
    cluster = _cluster(5, 6)
    for _ in range(rounds):
        cluster.run(25)
        cluster.network.pause(cluster.nodes[2], 5.0)
        cluster.run(5)
    count = len(cluster.checkers.deaths)
    wanted = "0 deaths in 1 h"
    return (
        "wan, 5 nodes, one stalled 5 s every 30 s",
        wanted,
        f"{count} in {rounds * 30} s",
        not count,
    )


def healing(full: bool) -> Row:
    times = []
    for seed in range(1, (5 if full else 2) + 1):
        cluster = _cluster(20, seed)
        cluster.run(20)
        times.append(healing_time(cluster, 300 if full else 120, 300, 0.5))
    worst = slowest(times)
    return (
        "wan, 20 nodes 50/50 for 5 min",
        "converge <= 60 s",
        f"{worst:.1f} s at most",
        worst <= 60,
    )


def leave(full: bool) -> Row:
    times = []
    for seed in range(1, (10 if full else 3) + 1):
        cluster = _cluster(20, seed)
        cluster.run(20)
        times.append(leave_time(cluster, 30, 0.02))
    worst = slowest(times)
    return "wan, clean leave, 20 nodes", "<= 2 s", f"{worst:.2f} s at most", worst <= 2


def cost(_full: bool) -> Row:
    cluster = _cluster(10, 9, Faults(delay_s=0.08))
    cluster.run(60)
    rate = payload_rate(cluster, 240)
    return (
        "wan, gossip cost, 10 idle nodes",
        "<= 500 B/s",
        f"{rate:.0f} B/s of payload",
        rate <= 500,
    )


WAN_ROWS = (
    partial(kills, silent=False), partial(kills, silent=True), quiet, stalls, healing, leave, cost,
)  # fmt: skip
