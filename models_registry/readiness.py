"""When an engine is ready: it answered a real one-token request. Deadlines scale with the model's size.

/health alone does not prove it: it says ok while a part of a split hangs, and says it before the
first page of weights was touched. Of the numbers of slots and context the engine's own are reported.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models_registry.supervision.engine_http import NoAnswer, ask
from nodes.mesh.model_facts import Capability, ModelFacts

LOAD_FLOOR_S = 60.0
"""A model of no size may take this long to load (a slow disk, a busy machine)."""
SLOWEST_LOAD_BYTES_PER_S = 20e6
"""A load slower than this, about a worn SD card, counts as failed."""
FIRST_TOKEN_FLOOR_S = 30.0
SLOWEST_FIRST_TOKEN_BYTES_PER_S = 50e6
"""The first token touches every weight, and with mmap reads it from disk."""
FIRST_POLL_S = 0.02
LONGEST_POLL_S = 0.5
POLL_ANSWER_S = 5.0
PROPS_S = 10.0


class NotReady(Exception):
    """The engine did not become ready; the text is a clause that says why."""


@dataclass(frozen=True, slots=True)
class EngineShape:
    """What a ready engine says of itself."""

    slots: int
    context: int
    """Tokens of context for each slot."""


def load_deadline_s(size_bytes: int) -> float:
    """Return how long loading this many bytes may take, seconds."""
    return LOAD_FLOOR_S + size_bytes / SLOWEST_LOAD_BYTES_PER_S


def first_token_deadline_s(size_bytes: int) -> float:
    """Return how long the first token of a model of this size may take, seconds."""
    return FIRST_TOKEN_FLOOR_S + size_bytes / SLOWEST_FIRST_TOKEN_BYTES_PER_S


def embeddings_only(model: ModelFacts) -> bool:
    """Return whether the model embeds and does not chat, so that a token cannot be asked of it."""
    return Capability.EMBEDDINGS in model.capabilities and Capability.CHAT not in model.capabilities


async def wait_until_ready(
    port: int, model: ModelFacts, on_phase: Callable[[str], None]
) -> EngineShape:
    """Return the engine's shape once it answered a one-token request (or one embedding).

    `on_phase` hears ``loading`` and ``warming``. Raises: NotReady.
    """
    await _wait_for_health(port, load_deadline_s(model.size_bytes), on_phase)
    on_phase("warming")
    await prove(port, model, deadline_s=first_token_deadline_s(model.size_bytes))
    return await _shape(port)


async def _wait_for_health(port: int, deadline_s: float, on_phase: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    end, pause_s, heard = loop.time() + deadline_s, FIRST_POLL_S, False
    while True:
        try:
            answer = await ask(port, "/health", deadline_s=POLL_ANSWER_S)
            if answer.status == 200:
                return
            if not heard:
                heard = True
                on_phase("loading")
        except NoAnswer:
            # Its port is not open yet; a dead process is noticed by whoever holds it.
            pass
        if loop.time() + pause_s > end:
            raise NotReady(f"was not loaded after {deadline_s:.0f} s")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.3, LONGEST_POLL_S)


async def prove(port: int, model: ModelFacts, *, deadline_s: float) -> None:
    """Return when the engine produced one token, or one embedding. Raises: NotReady."""
    body: dict[str, Any]
    if embeddings_only(model):
        path, body = "/v1/embeddings", {"input": "a"}
    else:
        # Its own prompt cache must not answer for it: every weight is to be touched.
        path, body = "/v1/completions", {"prompt": "a", "max_tokens": 1, "cache_prompt": False}
    try:
        answer = await ask(port, path, body, deadline_s=deadline_s)
        produced = _produced(answer.json()) if answer.status == 200 else False
    except NoAnswer as fault:
        raise NotReady(f"gave {fault}") from fault
    if not produced:
        raise NotReady(f"answered its first request with {answer.status} and no result")


def _produced(body: Any) -> bool:
    """Return whether a completion has a choice, or an embedding has finite numbers."""
    match body:
        case {"choices": [_, *_]}:
            return True
        case {"data": [{"embedding": [_, *_] as numbers}, *_]}:
            return all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
        case _:
            return False


async def _shape(port: int) -> EngineShape:
    try:
        answer = await ask(port, "/props", deadline_s=PROPS_S)
        props = answer.json()
        slots = int(props["total_slots"])
        context = int(props["default_generation_settings"]["n_ctx"])
    except (NoAnswer, KeyError, TypeError, ValueError) as fault:
        raise NotReady("does not tell its slots and context on /props") from fault
    return EngineShape(slots, context)
