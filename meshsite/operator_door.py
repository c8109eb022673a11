"""What an operator may ask of the node, and the true outcome of each (`nodes.runtime.handle.Operator`)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from meshsite.member_door import CLIENT_REFUSAL, MemberDoor
from meshsite.side import Side
from nodes.mesh import events as ev
from nodes.mesh.ids import ModelName
from nodes.mesh.reconcile import RunState
from nodes.mesh.routing import ModelState, match_name
from nodes.runtime.driver import Driver
from nodes.runtime.handle import OperatorResult, Outcome
from nodes.runtime.mesh_key import MeshKeyError
from nodes.runtime.token_ledger import TokenLedgerError

LOAD_ANSWER_S = 20.0
"""How long an operator who asks for a model waits for its fetching. Below `control_client.TIMEOUT_S`."""


class OperatorDoor(MemberDoor):
    """Turns requests into events and waits until the core has taken them."""

    def __init__(
        self,
        driver: Driver,
        mesh: Side,
        load: Callable[[str], "asyncio.Task[str]"],
        request_stop: Callable[[str], None],
    ) -> None:
        """`load` begins to fetch a model; its task returns why not, or nothing, and outlives the asking."""
        super().__init__(driver, mesh)
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
        if self._member is None:
            return CLIENT_REFUSAL
        elsewhere = self._hosts_elsewhere(name)
        self._driver.post(ev.DropRequested(name, leave_after=True))
        await self._driver.settled()
        if elsewhere:
            return await self._dropped_elsewhere(name, elsewhere)
        slot = self._driver.node.serving.slots.get(name)
        if slot is not None and slot.run is not None:
            text = f"{name} takes no more requests; open answers may finish."
            return OperatorResult(True, text, outcome=Outcome.BEGUN)
        return OperatorResult(True, f"{name} is no longer served.")

    def _hosts_elsewhere(self, name: ModelName) -> list[str]:
        """Return the names of the other nodes that answer for the model."""
        upstreams = self._driver.node.members.upstreams()
        return [
            u.name or u.node_id[:8]
            for u in upstreams
            if u.model == name and u.state in (ModelState.READY, ModelState.LOADING)
        ]

    async def _dropped_elsewhere(self, name: ModelName, hosts: list[str]) -> OperatorResult:
        """Wait until the other nodes say that they take no more requests for it, and tell."""
        if not await self._confirmed(lambda: not self._hosts_elsewhere(name)):
            left = ", ".join(self._hosts_elsewhere(name))
            text = f"{name} was dropped, but {left} did not confirm it yet."
            return OperatorResult(
                False, f"{text} `mesh-llm status` shows when it does.", outcome=Outcome.UNCONFIRMED
            )
        where = ", ".join(sorted(set(hosts)))
        return OperatorResult(True, f"{name} takes no more requests (on {where}).")

    async def load(self, model: str) -> OperatorResult:
        """Serve a model that is on disk, in the catalogue or on the hub."""
        if self._member is None:
            return CLIENT_REFUSAL
        if self._driver.node.serving.drained:
            text = (
                "This node is drained: undrain it first, or serve the model from another machine."
            )
            return OperatorResult(False, text)
        fetching = self._load(model)
        await asyncio.wait({fetching}, timeout=LOAD_ANSWER_S)
        if not fetching.done():
            text = (
                f"{model} is being fetched; watch it in the models list, or by `mesh-llm status`."
            )
            return OperatorResult(True, text, outcome=Outcome.BEGUN)
        if refused := fetching.result():
            return OperatorResult(False, refused)
        await self._driver.settled()
        text = f"{model} is to be served; watch it load in the models list."
        return OperatorResult(True, text, outcome=Outcome.BEGUN)

    async def servable(self) -> OperatorResult:
        """List what can be named to be served here: files on disk, then the catalogue."""
        from models_registry.listing import known

        node = self._driver.node
        found = node.serving.resources
        offered_bytes = found.offered_bytes if found else 0
        rows = known(node.own.on_disk, offered_bytes, node.serving.options.parallel or 1)
        told = [
            {
                "name": row.name,
                "on_disk": row.on_disk,
                "size_bytes": row.size_bytes,
                "fits": row.fits,
                "verdict": row.verdict,
                "capabilities": list(row.capabilities),
            }
            for row in rows
        ]
        return OperatorResult(True, f"{len(told)} models can be named.", {"models": told})

    async def why(self, model: str) -> OperatorResult:
        """Tell why a model is served as it is."""
        node = self._driver.node
        known = sorted(
            {key.removeprefix("model/") for key in node.shown if key.startswith("model/")}
        )
        named = match_name(model, known)
        name = ModelName(named[0] if len(named) == 1 else model)
        document = why_document(node.why(name, time.monotonic()))
        return OperatorResult(True, document["sentence"], {"why": document})

    async def restart(self, model: str) -> OperatorResult:
        """End the model's engine, if it runs, and start it afresh."""
        if self._member is None:
            return CLIENT_REFUSAL
        if why := self._driver.node.serving.refused.get(ModelName(model)):
            return OperatorResult(
                False, f"{model} has no engine to restart: {why} `mesh-llm load` tries it anew."
            )
        name = self._known(model)
        if isinstance(name, OperatorResult):
            return name
        serving = self._driver.node.serving
        if name not in serving.wanted:
            where = ", ".join(sorted(set(self._hosts_elsewhere(name))))
            text = f"{name} was dropped; `mesh-llm load {name}` serves it again."
            if where:
                text = f"{name} is served by {where}, not by this node: restart it there."
            return OperatorResult(False, text)
        if serving.drained:
            return OperatorResult(False, f"{name} cannot be started: this node is drained.")
        if waits := serving.unplaced.get(name):
            return OperatorResult(False, f"{name} cannot be started: {waits.reason}.")
        self._driver.post(ev.RestartRequested(name))
        await self._driver.settled()
        return OperatorResult(True, f"{name} is being restarted.", outcome=Outcome.BEGUN)

    async def stop(self) -> OperatorResult:
        """Stop the node in good order."""
        self._request_stop("An operator stopped the node.")
        await asyncio.sleep(0)
        running = [s for s in self._driver.node.serving.slots.values() if s.run]
        busy = any(s.run and s.run.state is RunState.READY for s in running)
        text = "The node is stopping; open answers may finish." if busy else "The node is stopping."
        return OperatorResult(True, text, outcome=Outcome.BEGUN)

    async def tokens(self) -> OperatorResult:
        """List the invite tokens that are known here."""
        if self._member is None:
            return CLIENT_REFUSAL
        lines = [
            {
                "id": record.token_id,
                "label": record.label,
                "issuer": record.issuer,
                "expires_s": record.expires_s,
                "uses_left": record.uses_left,
                "clients_only": record.clients_only,
                "revoked": record.revoked,
                "joined": len(record.redeemed_by),
            }
            for record in self._member.ledger.records()
        ]
        return OperatorResult(True, f"{len(lines)} invite tokens.", {"tokens": lines})

    async def new_token(
        self, hours: float, uses: int | None, clients_only: bool, label: str
    ) -> OperatorResult:
        """Make an invite token."""
        if self._member is None:
            return CLIENT_REFUSAL
        if not self._side.entered.is_set():
            return OperatorResult(False, "This node is not in a mesh yet; try again in a moment.")
        try:
            made = self._member.new_token(hours * 3600, uses, clients_only, label)
        except (TokenLedgerError, ValueError) as error:
            return OperatorResult(False, _sentence(str(error)))
        text = f"Made the token {made.token_id}. It lets machines join: treat it like a password."
        found = {"token": made.encode(), "id": made.token_id, "expires_s": made.expires_s}
        return OperatorResult(True, text, found)

    async def revoke_token(self, token_id: str) -> OperatorResult:
        """Take an invite token back."""
        if self._member is None:
            return CLIENT_REFUSAL
        try:
            record = self._member.revoke_token(token_id)
        except TokenLedgerError as error:
            return OperatorResult(False, _sentence(str(error)))
        if record is None:
            return OperatorResult(
                False, f"No single token has the id {token_id}; `mesh-llm token list` shows them."
            )
        return OperatorResult(True, f"The token {record.token_id} lets nobody in any more.")

    async def rotate(self) -> OperatorResult:
        """Give the mesh a new key."""
        if self._member is None:
            return CLIENT_REFUSAL
        if not self._side.entered.is_set():
            return OperatorResult(False, "This node is not in a mesh yet; try again in a moment.")
        try:
            self._member.rotate()
        except MeshKeyError as error:
            return OperatorResult(False, _sentence(str(error)))
        text = "The mesh has a new key. Invite tokens of before no longer work; members stay."
        return OperatorResult(True, text)

    def _known(self, model: str) -> ModelName | OperatorResult:
        serving = self._driver.node.serving
        running = (name for name, slot in serving.slots.items() if slot.run)
        elsewhere = {u.model for u in self._driver.node.members.upstreams()}
        known = sorted({*serving.wanted, *running, *elsewhere})
        found = match_name(model, known)
        if len(found) == 1:
            return ModelName(found[0])
        if found:
            return OperatorResult(
                False, f"{model} could mean {', '.join(found)}; give the full name."
            )
        served = ", ".join(known) or "no model at all"
        return OperatorResult(False, f"Nobody serves {model}. This mesh serves {served}.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def why_document(found: dict[str, Any]) -> dict[str, Any]:
    """Return `nodes.mesh.reasons.why` as people's programs get it: sentences under stable names."""
    return {
        "model": found["model"],
        "decision": found["mode"],
        "term": found["term"],
        "sentence": _sentence(found["text"]),
        "candidates": [
            {
                "node_id": one["node_id"],
                "name": one["name"],
                "accepted": one["accepted"],
                "sentence": _sentence(one["reason"]),
            }
            for one in found["candidates"]
        ],
        "needed": found["would_need"],
        "history": found["history"],
    }
