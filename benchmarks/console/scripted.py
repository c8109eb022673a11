"""`python -m benchmarks.console.scripted MACHINES CHANGES`: a scripted node's console in its own process.

Prints its address on the first line, then changes one machine CHANGES times a second until its standard
input closes. What it shows is the scene of the console's own tests; the changes are a pure function of
their number, so that every run sees the same ones.
"""

import random
import sys
import threading
import time
from functools import partial
from typing import Any

import tests.conftest  # noqa: F401  (a home of its own, and Django set up)
from nodes.access import new_operator_link
from tests.fakes.console_thread import ConsoleThread
from tests.fakes.node_handle import ScriptedNode
from tests.fakes.scenes import event, many, peer_id


def change(chance: random.Random, machines: int, node: ScriptedNode) -> None:
    """Change one machine as a working mesh does; every fiftieth change is also told in the history."""
    number = chance.randrange(1, machines)
    key = f"peer/{peer_id(number)}"
    changed: dict[str, Any] = {
        "role": chance.choice(["host", "standby"]), "in_flight": chance.randrange(9),
        "used_gb": chance.uniform(0, 20), "tokens_per_s": chance.uniform(0, 90),
    }  # fmt: skip
    node.feed.publish({key: node.feed.state[key] | changed})
    if chance.random() < 0.02:
        node.feed.record(event(f"Something about machine {number}.", 0, node=peer_id(number)))


def main() -> None:
    """Serve and change until told to end."""
    machines, per_s = int(sys.argv[1]), float(sys.argv[2])
    console = ConsoleThread()
    console.do(lambda node: many(machines).play(node))
    print(new_operator_link(console.url), flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    chance = random.Random(1)
    due_s = time.monotonic()
    while not ended.is_set():
        if not per_s or machines < 2:
            ended.wait(1)
            continue
        console.do(partial(change, chance, machines))
        due_s += 1 / per_s
        ended.wait(max(0.0, due_s - time.monotonic()))
    console.end()


if __name__ == "__main__":
    main()
