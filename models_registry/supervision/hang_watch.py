"""Whether a ready engine is frozen: it answers nothing and does nothing, for longer than a bound.

/health cannot tell: it is answered by another thread. /slots can: it goes through the queue of the
loop that computes tokens, so it is answered between two batches and not at all while that loop
hangs. It costs no token and spoils no slot's prompt cache, which a one-token request every few
seconds would do. Where parts of the engine are elsewhere (an rpc-server), an idle loop answers
/slots though a part is frozen: there a one-token request follows now and then, on an idle engine only.

A long prompt also keeps that loop from answering, so silence alone is no proof: tokens that flow (the
proxy tells), or processor time that is used, count as life up to `busy_bound_s`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from models_registry.readiness import NotReady, prove
from models_registry.supervision.engine_http import NoAnswer, ask
from nodes.mesh.model_facts import ModelFacts

T = TypeVar("T")

WORKING_SHARE = 0.05
"""Processor time per wall time from which a silent engine counts as working."""
RETRY_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class HangLimits:
    """How long is too long. A frozen engine is found within `check_interval_s` + `silent_bound_s`."""

    check_interval_s: float = 5.0
    silent_bound_s: float = 20.0
    """No answer, no token and no processor time for this long: frozen."""
    split_silent_bound_s: float = 60.0
    """The same for a split, whose parts may compute a long batch elsewhere while nothing moves here. A
    frozen part is found where it runs, within seconds (`rpc_server`)."""
    busy_bound_s: float = 900.0
    """Processor time but neither answer nor token for this long: frozen too."""
    token_interval_s: float = 60.0
    """Between one-token requests to an idle engine with parts elsewhere."""


class Frozen(Exception):
    """The engine is frozen; the text is a clause that says what was seen."""


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What /slots says."""

    busy: int | None
    """Slots at work; None when this engine does not tell."""


async def slot_use(port: int, *, deadline_s: float) -> SlotUse:
    """Return how many slots are at work. Raises: NoAnswer."""
    answer = await ask(port, "/slots", deadline_s=deadline_s)
    if answer.status != 200:
        return SlotUse(None)
    slots = answer.json()
    if not isinstance(slots, list):
        return SlotUse(None)
    return SlotUse(sum(1 for slot in slots if isinstance(slot, dict) and slot.get("is_processing")))


class HangWatch:
    """Watches one ready engine. `run` only ever ends by `Frozen`."""

    def __init__(
        self,
        port: int,
        model: ModelFacts,
        *,
        limits: HangLimits,
        cpu_seconds: Callable[[], float],
        parts_elsewhere: bool,
    ) -> None:
        self._port = port
        self._model = model
        self._limits = limits
        self._cpu_seconds = cpu_seconds
        self._parts_elsewhere = parts_elsewhere
        self._clock = asyncio.get_running_loop().time
        self._active_at_s = self._token_at_s = self._clock()

    @property
    def quiet_s(self) -> float:
        """Seconds since tokens were last seen to flow."""
        return self._clock() - self._active_at_s

    def note_activity(self) -> None:
        """Tokens flow: the proxy saw bytes of an answer. Cheap enough for every chunk."""
        self._active_at_s = self._clock()

    async def run(self) -> None:
        """Watch until the engine is frozen. Raises: Frozen."""
        while True:
            await asyncio.sleep(self._limits.check_interval_s)
            if self.quiet_s < self._limits.check_interval_s:
                continue
            use = await self._answer(self._ask_slots)
            idle_for_s = min(self.quiet_s, self._clock() - self._token_at_s)
            wanted = self._parts_elsewhere or (use is not None and use.busy is None)
            if (
                wanted
                and use is not None
                and not use.busy
                and idle_for_s >= self._limits.token_interval_s
            ):
                await self._answer(self._ask_token)
                self._token_at_s = self._clock()

    async def _ask_slots(self) -> SlotUse:
        return await slot_use(self._port, deadline_s=self._limits.busy_bound_s)

    async def _ask_token(self) -> None:
        await prove(self._port, self._model, deadline_s=self._limits.busy_bound_s)

    async def _answer(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Return the engine's answer, or None when it showed life otherwise. Raises: Frozen."""
        asked_s = alive_s = self._clock()
        asking = asyncio.ensure_future(question())
        try:
            while True:
                cpu_s, looked_s = self._cpu_seconds(), self._clock()
                await asyncio.wait({asking}, timeout=min(1.0, self._limits.silent_bound_s / 4))
                if asking.done():
                    try:
                        return asking.result()
                    except (NoAnswer, NotReady):
                        # Refused or cut off: asked again until the bound; a dead one is noticed elsewhere.
                        await asyncio.sleep(RETRY_PAUSE_S)
                        asking = asyncio.ensure_future(question())
                now_s = self._clock()
                if self._active_at_s > asked_s:
                    return None
                if self._cpu_seconds() - cpu_s >= WORKING_SHARE * (now_s - looked_s):
                    alive_s = now_s
                self._judge(now_s - alive_s, now_s - asked_s)
        finally:
            asking.cancel()

    def _judge(self, silent_s: float, unanswered_s: float) -> None:
        if silent_s >= self._limits.silent_bound_s:
            raise Frozen(f"did not answer and did nothing for {silent_s:.0f} s")
        if unanswered_s >= self._limits.busy_bound_s:
            raise Frozen(f"was busy without an answer or a token for {unanswered_s:.0f} s")
