"""The simulated rows of the issue's table, measured: quick counts or full ones."""

import time
from functools import partial

from tests.sim.cluster import Cluster
from tests.sim.measure_wan import WAN_ROWS
from tests.sim.measured import (
    Measure,
    Row,
    healing_time,
    kill_times,
    leave_time,
    payload_rate,
    percentile,
    print_rows,
    slowest,
)
from tests.sim.parts import Faults


def thousand_once(seed: int) -> tuple[float, float, int]:
    """Return (wall seconds, CPU seconds, false deaths) of one seed, set-up included."""
    wall, cpu = time.perf_counter(), time.process_time()
    cluster = Cluster(1000, seed, Faults(loss=0.01))
    cluster.run(60)
    took = time.perf_counter() - wall, time.process_time() - cpu
    return *took, cluster.checkers.false_deaths


def thousand(full: bool) -> Row:
    runs = [thousand_once(seed) for seed in range(1, (20 if full else 1) + 1)]
    wall, cpu = max(w for w, _, _ in runs), max(c for _, c, _ in runs)
    false_deaths = sum(deaths for _, _, deaths in runs)
    measured = (
        f"{wall:.1f} s of wall time at most, {cpu:.1f} s of CPU, set-up included; "
        f"{false_deaths} false deaths, {len(runs)} seeds"
    )
    wanted = "<= 30 s of wall time, 0 false deaths over 20 seeds"
    return "1,000 nodes, 60 s, 1 % loss", wanted, measured, wall <= 30 and not false_deaths


def detection(full: bool) -> Row:
    cluster = Cluster(1000, 77, Faults(loss=0.01))
    cluster.run(5)
    times: list[float] = []
    for victim in cluster.nodes[10 : 10 + (5 if full else 1)]:
        at = cluster.network.now
        cluster.network.kill(victim, silent=True)
        cluster.run(20)
        times.extend(t - at for t, _, dead in cluster.checkers.deaths if dead == victim.node_id)
    p50, p99 = percentile(times, 50), percentile(times, 99)
    measured = f"p50 {p50:.1f} s, p99 {p99:.1f} s ({len(times)} observations)"
    return "detection at 1,000 nodes", "p50 <= 9 s, p99 <= 15 s", measured, p50 <= 9 and p99 <= 15


def lossy(full: bool) -> Row:
    seconds = 3600 if full else 300
    cluster = Cluster(5, 5, Faults(loss=0.2))
    cluster.run(seconds)
    count = cluster.checkers.false_deaths
    return (
        "5 nodes, 20 % loss",
        "1 h: 0 false deaths",
        f"{seconds} s: {count} false deaths",
        not count,
    )


def stalled(full: bool) -> Row:
    rounds = 360 if full else 30
    cluster = Cluster(5, 6)
    for _ in range(rounds):
        cluster.run(8)
        cluster.network.pause(cluster.nodes[2], 2.0)
        cluster.run(2)
    count = cluster.checkers.false_deaths
    measured = f"{rounds * 10} s: {count} false deaths"
    return "5 nodes, one stalled 2 s every 10 s", "1 h: 0 false deaths", measured, not count


def partition(full: bool) -> Row:
    times = []
    for seed in range(1, (5 if full else 1) + 1):
        cluster = Cluster(100, seed)
        cluster.run(5)
        times.append(healing_time(cluster, 300 if full else 60, 60, 0.25))
    worst = slowest(times)
    return "100 nodes 50/50 for 5 min", "converge <= 10 s", f"{worst:.2f} s at most", worst <= 10


def kills(full: bool, silent: bool, size: int = 3) -> Row:
    late: list[float] = []
    dead: list[float] = []
    for seed in range(1, (30 if full else 10) + 1):
        cluster = Cluster(size, seed)
        cluster.run(5 + seed * 0.37)
        died, ranked = kill_times(cluster, cluster.nodes[seed % size], silent, 8, 0.02)
        dead += died
        late += ranked
    low, high = (4.0, 6.0) if silent else (1.0, 2.0)
    d50, d99 = percentile(dead, 50), percentile(dead, 99)
    l50, l99 = percentile(late, 50), percentile(late, 99)
    ranks = (0.8, 1.5) if size == 3 else (1.0, 2.0)
    wanted = (
        f"dead p50 <= {low:.0f} s, p99 <= {high:.0f} s; "
        f"ranked last p50 <= {ranks[0]} s, p99 <= {ranks[1]} s"
    )
    return (
        f"{size} nodes, kill -9, {'silent' if silent else 'port refused'}",
        wanted,
        f"dead {d50:.2f} / {d99:.2f} s; ranked last {l50:.2f} / {l99:.2f} s",
        d50 <= low and d99 <= high and l50 <= ranks[0] and l99 <= ranks[1],
    )


def leave(full: bool) -> Row:
    times = []
    for size in (3, 10, 100):
        for seed in range(1, (10 if full else 2) + 1):
            cluster = Cluster(size, seed, Faults(loss=0.01))
            cluster.run(5)
            times.append(leave_time(cluster, 5, 0.01))
    worst = slowest(times)
    return (
        "clean leave, 3 to 100 nodes, 1 % loss",
        "<= 500 ms",
        f"{worst * 1000:.0f} ms at most",
        worst <= 0.5,
    )


def restart(full: bool) -> Row:
    times = []
    for size in (3, 10, 100):
        for seed in range(1, (10 if full else 2) + 1):
            cluster = Cluster(size, seed)
            cluster.run(5)
            name = cluster.nodes[1].name
            cluster.network.kill(cluster.nodes[1])
            cluster.run(4 if seed % 2 else 0.2)
            cluster.restart(name)
            times.append(cluster.network.run_until(cluster.converged, 20, 0.05))
    worst = slowest(times)
    return (
        "restart with the same key, 3 to 100 nodes",
        "<= 2 s",
        f"{worst:.2f} s at most",
        worst <= 2,
    )


def cost(_full: bool, size: int, wanted_bytes: float) -> Row:
    cluster = Cluster(size, 9)
    cluster.run(20)
    sent, started = cluster.network.datagrams, time.process_time()
    rate = payload_rate(cluster, 60)
    spent = time.process_time() - started
    datagrams = (cluster.network.datagrams - sent) / 60 / size
    measured = (
        f"{rate:.0f} B/s of payload and {datagrams:.1f} datagrams/s sent a node, "
        f"{spent / 60 / size * 100:.3f} % of a core (simulator included)"
    )
    wanted = f"<= {wanted_bytes:.0f} B/s" if wanted_bytes else "printed"
    kept = not wanted_bytes or rate <= wanted_bytes
    return f"gossip cost, {size} idle nodes", wanted, measured, kept


ROWS: tuple[Measure, ...] = (
    partial(kills, silent=False), partial(kills, silent=True), partial(kills, silent=True, size=5),
    partial(kills, silent=True, size=12), leave, restart, lossy, stalled, partition,
    partial(cost, size=10, wanted_bytes=2000), partial(cost, size=100, wanted_bytes=0),
    detection, thousand,
)  # fmt: skip


def print_table(full: bool, only: str = "") -> int:
    """Print the rows, or those of the measures named so; return 1 if one was missed."""
    return print_rows((*ROWS, *WAN_ROWS), full, only)
