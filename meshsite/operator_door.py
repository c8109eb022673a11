"""What an operator may ask of the node, and the true outcome of each (`nodes.runtime.handle.Operator`)."""

import asyncio
from collections.abc import Callable

from nodes.mesh import events as ev
from nodes.mesh.ids import ModelName
from nodes.mesh.reconcile import RunState
from nodes.mesh.routing import match_name
from nodes.runtime.driver import Driver
from nodes.runtime.handle import OperatorResult

LOAD_ANSWER_S = 20.0
"""How long an operator who asks for a model waits for its fetching. Below `control_client.TIMEOUT_S`."""


class OperatorDoor:
    """Turns requests into events and waits until the core has taken them."""

    def __init__(
        self,
        driver: Driver,
        load: Callable[[str], "asyncio.Task[str]"],
        request_stop: Callable[[str], None],
    ) -> None:
        """`load` begins to fetch a model; its task returns why not, or nothing, and outlives the asking."""
        self._driver = driver
        self._load = load
        self._request_stop = request_stop

    async def drop(self, model: str) -> OperatorResult:
        """Stop serving a model. It counts as cold at once; its open answers may finish."""
        refused = self._driver.node.serving.refused
        if model in refused:
            self._driver.post(ev.DropRequested(ModelName(model), leave_after=False))
            await self._driver.settled()
            return OperatorResult(True, f"{model}, which could not be served, is off the list.")
        name = self._known(model)
        if isinstance(name, OperatorResult):
            return name
        self._driver.post(ev.DropRequested(name, leave_after=True))
        await self._driver.settled()
        slot = self._driver.node.serving.slots.get(name)
        if slot is not None and slot.run is not None:
            return OperatorResult(True, f"{name} takes no more requests; open answers may finish.")
        return OperatorResult(True, f"{name} is no longer served.")

    async def load(self, model: str) -> OperatorResult:
        """Serve a model that is on disk, in the catalogue or on the hub."""
        fetching = self._load(model)
        await asyncio.wait({fetching}, timeout=LOAD_ANSWER_S)
        if not fetching.done():
            text = (
                f"{model} is being fetched; watch it in the models list, or by `mesh-llm status`."
            )
            return OperatorResult(True, text)
        if refused := fetching.result():
            return OperatorResult(False, refused)
        await self._driver.settled()
        return OperatorResult(True, f"{model} is to be served; watch it load in the models list.")

    async def restart(self, model: str) -> OperatorResult:
        """End the model's engine, if it runs, and start it afresh."""
        if why := self._driver.node.serving.refused.get(ModelName(model)):
            return OperatorResult(
                False, f"{model} has no engine to restart: {why} `mesh-llm load` tries it anew."
            )
        name = self._known(model)
        if isinstance(name, OperatorResult):
            return name
        serving = self._driver.node.serving
        if name not in serving.wanted:
            return OperatorResult(
                False, f"{name} was dropped; `mesh-llm load {name}` serves it again."
            )
        if waits := serving.unplaced.get(name):
            return OperatorResult(False, f"{name} cannot be started: {waits.reason}.")
        self._driver.post(ev.RestartRequested(name))
        await self._driver.settled()
        return OperatorResult(True, f"{name} is being restarted.")

    async def stop(self) -> OperatorResult:
        """Stop the node in good order."""
        self._request_stop("An operator stopped the node.")
        await asyncio.sleep(0)
        running = [s for s in self._driver.node.serving.slots.values() if s.run]
        busy = any(s.run and s.run.state is RunState.READY for s in running)
        text = "The node is stopping; open answers may finish." if busy else "The node is stopping."
        return OperatorResult(True, text)

    def _known(self, model: str) -> ModelName | OperatorResult:
        serving = self._driver.node.serving
        running = (name for name, slot in serving.slots.items() if slot.run)
        known = sorted({*serving.wanted, *running})
        found = match_name(model, known)
        if len(found) == 1:
            return ModelName(found[0])
        if found:
            return OperatorResult(
                False, f"{model} could mean {', '.join(found)}; give the full name."
            )
        served = ", ".join(known) or "no model at all"
        return OperatorResult(False, f"Nobody serves {model}. This mesh serves {served}.")
