"""How requests spread over two hosts: conversations stay where their prompt is warm, all others evenly.

Prompt tokens are those that the engines say they processed (`timings.prompt_n` of each answer). Round-robin
is done by the measuring client, to the engines themselves: each next request goes to the other one.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.mesh.ask import Reply, answer
from benchmarks.mesh.stage import WORDS, stage
from benchmarks.plan import Plan
from benchmarks.process import TargetFailed
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from benchmarks.target_node import engine_port

AFFINITY_KEYS = ("mesh_prompt_share", "mesh_prompt_own", "mesh_prompt_robin")
EVEN_KEYS = {16: "mesh_even_16", 1: "mesh_even_1"}
"""Clients at the same time -> key."""
EVEN_ROUNDS = 5
TURNS = 8
QUESTION_WORDS = 24
ANSWER_TOKENS = 64

Send = Callable[[dict[str, Any]], Awaitable[Reply]]


def measure_affinity(plan: Plan, results: Results, ground: Ground) -> None:
    """The same conversations twice, each time in a mesh with nothing in its engines' memory."""
    for number in range(plan.affinity_rounds):
        own = _processed(plan, ground, number, robin=False)
        robin = _processed(plan, ground, number, robin=True)
        for key, value in zip(AFFINITY_KEYS, (own / robin, own, robin), strict=True):
            results.add(key, OURS, number, value)


def _processed(plan: Plan, ground: Ground, seed: int, *, robin: bool) -> int:
    """Return the prompt tokens that both engines processed together."""
    with stage(ground) as made:
        hosts = made.two_hosts()
        ports = itertools.cycle([made.entry().port])
        if robin:
            ports = itertools.cycle([engine_port(host.process.pid) for host in hosts])

        async def send(body: dict[str, Any]) -> Reply:
            return await answer(next(ports), "/v1/chat/completions", body)

        return asyncio.run(_conversations(plan.conversations, seed, send))


async def _conversations(count: int, seed: int, send: Send) -> int:
    dice = random.Random(seed)
    talks = [_conversation(random.Random(dice.random()), send) for _ in range(count)]
    return sum(await asyncio.gather(*talks))


async def _conversation(dice: random.Random, send: Send) -> int:
    messages: list[dict[str, str]] = []
    processed = 0
    for _ in range(TURNS):
        question = " ".join(dice.choices(WORDS, k=QUESTION_WORDS))
        messages.append({"role": "user", "content": question})
        reply = await send(
            {"model": "tiny", "messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0}
        )
        if reply.status != 200:
            raise TargetFailed(f"a turn was answered {reply.status}: {reply.body[:200]!r}")
        found = reply.json()
        processed += found["timings"]["prompt_n"]
        messages.append(found["choices"][0]["message"])
        await asyncio.sleep(dice.uniform(0.0, 0.2))  # somebody reads the answer
    return processed


def measure_even(plan: Plan, results: Results, ground: Ground) -> None:
    """Requests that are no conversation's next turn, from many clients and from one."""
    with stage(ground) as made:
        made.two_hosts()
        port = made.entry().port
        # Several rounds: two engines on one busy machine are not equally quick at every moment.
        for number, (clients, key) in itertools.product(range(EVEN_ROUNDS), EVEN_KEYS.items()):
            counts = asyncio.run(_count(port, plan.even_requests, clients))
            if len(counts) != 2:
                raise TargetFailed(f"one host got everything: {counts}")
            results.add(key, OURS, number, max(counts.values()) / min(counts.values()))


async def _count(port: int, requests: int, clients: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    left = iter(range(requests))

    async def client() -> None:
        for number in left:
            text = f"{number} {WORDS[number % len(WORDS)]}"
            body = {
                "model": "tiny",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 8,
            }
            reply = await answer(port, "/v1/chat/completions", body)
            if reply.status != 200:
                raise TargetFailed(f"request {number} was answered {reply.status}")
            counts[reply.node] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return counts
