"""Open answers on their way out: how long a stop waits for them, and what is told to those it ends.

A model that stops waits for the answers of its own engine. A node that stops waits for all it answers,
also those that come from other nodes' engines: its farewell closes the links that carry them.
"""

import asyncio
import time

from proxy.asgi import ApiApp

DRAIN_POLL_S = 0.05
"""How often the open answers are counted."""


async def drain(api: ApiApp, grace_s: float, model: str | None = None) -> None:
    """Return when no answer of `model`'s engine here (None: none at all) is open.

    After `grace_s` what is left is ended, visibly: a stream by an error event, a request by a 503.
    """
    deadline = time.monotonic() + grace_s
    while api.in_flight(model) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(DRAIN_POLL_S)
    what = "The node is stopping; ask again or ask another node."
    if model is not None:
        what = f"{model} is being stopped on this node; ask again."
    if api.interrupt(what, model):
        await asyncio.sleep(DRAIN_POLL_S)
