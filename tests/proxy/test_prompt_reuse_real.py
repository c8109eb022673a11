"""Conversations over two real engines: what affinity spares of the prompts, against taking turns."""

import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.conftest import Api, StartApi, upstream
from tests.proxy.real_servers import real_server

pytestmark = pytest.mark.engine

TURNS = 8
CONVERSATIONS = 6
QUESTIONS = [
    "What is a mesh of machines, and why would somebody want one?",
    "How does a node find the others?",
    "What happens when one of them is killed?",
    "How is a model split over two machines?",
    "Who may join, and how are they invited?",
    "What does a passive client do?",
    "Where is the console, and what does it show?",
    "How do I stop a node without losing answers?",
]
ALLOWED = 0.4
"""Prompt tokens processed, against taking turns (issue 4, Must show)."""


class Talk:
    """One conversation; counts the prompt tokens that the engines had to process for it."""

    def __init__(self, about: int) -> None:
        text = f"You answer questions about node {about}, tersely and to the point."
        self._messages: list[dict[str, Any]] = [{"role": "system", "content": text}]
        self.processed = 0
        self.hosts: list[bytes] = []

    async def turn(self, api: Api, question: str) -> None:
        self._messages.append({"role": "user", "content": question})
        body = {"model": "demo", "messages": self._messages, "max_tokens": 64, "temperature": 0}
        status, headers, answer = await api.post("/v1/chat/completions", json.dumps(body).encode())
        assert status == 200, answer
        found = json.loads(answer)
        self.processed += found["timings"]["prompt_n"]
        self.hosts.append(headers[b"x-mesh-node"])
        self._messages.append(found["choices"][0]["message"])


async def talk(
    api: Api, first: int, before: Callable[[int], Awaitable[None]]
) -> tuple[int, list[Talk]]:
    """Hold the conversations side by side; return the prompt tokens processed in all."""
    talks = [Talk(first + n) for n in range(CONVERSATIONS)]
    asked = 0
    for question in QUESTIONS[:TURNS]:
        for each in talks:
            await before(asked)
            await each.turn(api, question)
            asked += 1
        asked += 1  # so that taking turns does not give each conversation one host by accident
    return sum(each.processed for each in talks), talks


async def test_conversations_process_far_fewer_prompt_tokens_than_with_turns_taken(
    start_api: StartApi, engine_dir: Path
) -> None:
    with contextlib.ExitStack() as stack:
        # As many slots as conversations: what is compared is the choice of the host alone.
        ports = [
            stack.enter_context(real_server(engine_dir, "-c", "12288", "-np", "6"))
            for _ in range(2)
        ]
        both = [upstream(port, node=f"{n:02x}" * 32) for n, port in enumerate(ports, start=1)]
        api = await start_api()

        async def one_after_the_other(number: int) -> None:
            api.upstreams[:] = [both[number % 2]]

        async def both_always(number: int) -> None:
            api.upstreams[:] = both

        by_turns, _ = await talk(api, 100, one_after_the_other)
        by_affinity, talks = await talk(api, 200, both_always)
        assert all(len(set(each.hosts)) == 1 for each in talks)
        assert by_affinity <= ALLOWED * by_turns, f"{by_affinity} of {by_turns} prompt tokens"
        print(f"prompt tokens processed: {by_affinity}, taking turns {by_turns}")
