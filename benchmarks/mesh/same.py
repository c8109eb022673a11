"""The same varied requests through the hop and to llama-server itself: the bytes must be the same.

Left out of the comparison is what the engine makes anew for each answer: ids, timings, and the second in
which it was created. Each request is asked once before, since a cached prompt counts differently in `usage`
and may round differently in the last digit.
"""

import asyncio
import json
import random
import re
from typing import Any

from benchmarks.mesh.ask import Reply, answer
from benchmarks.mesh.stage import WORDS, stage
from benchmarks.plan import Plan
from benchmarks.process import TargetFailed
from benchmarks.results import Results
from benchmarks.target import OURS, Ground
from benchmarks.target_node import engine_port

KEY = "mesh_same"
_ID = rb'"(?:id|item_id|response_id|call_id)":\s*"[^"]*"'
_SECOND = rb'"(?:created|created_at|completed_at)":\s*\d+'
_TIMINGS = rb'"timings":\s*\{[^}]*\}'
_VARIES = re.compile(b"|".join((_ID, _SECOND, _TIMINGS)))
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_SHAPE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": _SHAPE}}


def measure_same(plan: Plan, results: Results, ground: Ground) -> None:
    """Ask both ways in turn, one after the other."""
    with stage(ground) as made:
        host = made.host("box-a", "--model", "tiny")
        entry = made.nodes.start("entry", join=made.nodes.token("box-a"), until="ready")
        ways = (engine_port(host.process.pid), entry.port)
        node_id = host.status()["node_id"]
        same = asyncio.run(_compare(plan.same_requests, ways, node_id))
    results.add(KEY, OURS, 0, same / plan.same_requests)


async def _compare(count: int, ways: tuple[int, int], node_id: str) -> int:
    """Return how many were answered with the same bytes; the first that was not is told."""
    same = 0
    for path, body in varied(count):
        await answer(ways[0], path, body)
        direct = await answer(ways[0], path, body)
        hop = await answer(ways[1], path, body)
        if hop.node != node_id:
            raise TargetFailed(f"{path} was answered {hop.status} by {hop.node or 'nobody'}")
        alike = _seen(direct) == _seen(hop)
        same += alike
        if not alike:
            print(f"\n{path} {body!r}\n  direct {_seen(direct)}\n  hop    {_seen(hop)}")
    return same


def _seen(reply: Reply) -> tuple[int, str, bytes]:
    return reply.status, reply.headers.get("content-type", ""), _VARIES.sub(b'"-":0', reply.body)


def varied(count: int) -> list[tuple[str, bytes]]:
    """Return requests of every kind that the engine answers, faulty ones among them."""
    dice = random.Random(4)
    made = []
    for number in range(count):
        path, body = _KINDS[number % len(_KINDS)](dice)
        fixed = {"model": "tiny", "temperature": 0, "seed": 1}
        made.append((path, json.dumps(fixed | body).encode()))
    return made


def _text(dice: random.Random) -> str:
    return " ".join(
        dice.choices([*WORDS, "Größe", "日本", "🙂", "\n", '"quoted"'], k=dice.randint(1, 60))
    )


def _messages(dice: random.Random) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"role": "system", "content": _text(dice)}]
    for _ in range(dice.randint(0, 3)):
        made += [
            {"role": "user", "content": _text(dice)},
            {"role": "assistant", "content": _text(dice)},
        ]
    return [*made[dice.randint(0, 1) :], {"role": "user", "content": _text(dice)}]


def _chat(dice: random.Random, **more: Any) -> tuple[str, dict[str, Any]]:
    tokens = dice.randint(1, 80)
    return "/v1/chat/completions", {"messages": _messages(dice), "max_tokens": tokens, **more}


def _completion(dice: random.Random, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"prompt": _text(dice), "max_tokens": dice.randint(1, 80), **more}


_KINDS = (
    _chat,
    lambda dice: _chat(dice, stream=True),
    lambda dice: _chat(dice, stream=True, stream_options={"include_usage": True}),
    lambda dice: _chat(dice, logprobs=True, top_logprobs=3),
    lambda dice: _chat(dice, stop=[dice.choice(WORDS)]),
    lambda dice: _chat(dice, tools=[_WEATHER]),
    lambda dice: _chat(dice, response_format=_SCHEMA),
    _completion,
    lambda dice: _completion(dice, stream=True),
    lambda dice: _completion(dice, logprobs=2),
    lambda dice: _completion(dice, n_predict=5, stream=True),
    lambda dice: _completion(dice, stop=[dice.choice(WORDS)], stream=True),
    lambda dice: ("/v1/embeddings", {"input": [_text(dice) for _ in range(dice.randint(1, 4))]}),
    lambda dice: ("/v1/responses", {"input": _text(dice), "max_output_tokens": 20}),
    lambda dice: ("/v1/responses", {"input": _text(dice), "max_output_tokens": 20, "stream": True}),
    lambda dice: ("/v1/messages", {"messages": _messages(dice)[-1:], "max_tokens": 20}),
    lambda dice: (
        "/v1/messages",
        {"messages": _messages(dice)[-1:], "max_tokens": 9, "stream": True},
    ),
    lambda dice: ("/v1/messages/count_tokens", {"messages": _messages(dice)[-1:]}),
    lambda dice: ("/v1/chat/completions", {"messages": _text(dice)}),
    lambda dice: _chat(dice, max_tokens=4, logit_bias={"3": "a"}),
)
