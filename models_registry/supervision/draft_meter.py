"""How well a draft model guesses: read from the engine's own counters while it is at work.

Not counted from the answers that pass: `/v1/messages` and `/v1/responses` say nothing of drafting.
Source: llama-server's /metrics (`--metrics`), `spec_decode_num_draft_tokens_total` and
`spec_decode_num_accepted_tokens_total`, build 0.7.0; a build without them never tells.
"""

import asyncio
import re
from collections.abc import Callable

from models_registry.supervision.engine_http import NoAnswer, ask

PERIOD_S = 2.0
"""How often a working engine is asked; an idle one is not."""
DEADLINE_S = 2.0
"""The answer waits for the batch that is being computed; one that takes longer is asked again later."""
_COUNTER = re.compile(
    rb"^llamacpp:spec_decode_num_(draft|accepted)_tokens_total (\d+)", re.MULTILINE
)

Counts = tuple[int, int]
"""(guessed, accepted) tokens since the engine's start."""


def counts_in(metrics: bytes) -> Counts | None:
    """Return the counts in an answer of /metrics; None: this build does not tell."""
    found = {name: int(number) for name, number in _COUNTER.findall(metrics)}
    if len(found) < 2:
        return None
    return found[b"draft"], found[b"accepted"]


class DraftMeter:
    """Asks one engine, after each time that its tokens flowed."""

    def __init__(
        self, port: int, quiet_s: Callable[[], float], report: Callable[[int, int], None]
    ) -> None:
        """`quiet_s` tells the seconds since tokens last flowed; `report` takes the counts that changed."""
        self._port = port
        self._quiet_s = quiet_s
        self._report = report

    async def run(self) -> None:
        """Ask until cancelled. Never raises for what the engine does or does not say."""
        clock = asyncio.get_running_loop().time
        asked_at_s = clock()
        told: Counts = (0, 0)
        while True:
            await asyncio.sleep(PERIOD_S)
            flowed_at_s = clock() - self._quiet_s()
            if flowed_at_s < asked_at_s:
                continue
            now_s = clock()
            try:
                answer = await ask(self._port, "/metrics", deadline_s=DEADLINE_S)
            except NoAnswer:
                continue
            asked_at_s = now_s
            counts = counts_in(answer.body) if answer.status == 200 else None
            if counts is not None and counts != told:
                told = counts
                self._report(*counts)
