"""What an operator may ask of the node, and the true outcome of each (`nodes.runtime.handle.Operator`)."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from meshsite.diagnosis import diagnose
from meshsite.mesh_side import MeshSide
from meshsite.side import Side
from nodes.mesh import events as ev
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.reconcile import RunState
from nodes.mesh.routing import ModelState, match_name
from nodes.runtime.driver import Driver
from nodes.runtime.handle import OperatorResult
from nodes.runtime.mesh_key import MeshKeyError
from nodes.runtime.token_ledger import TokenLedgerError

LOAD_ANSWER_S = 20.0
"""How long an operator who asks for a model waits for its fetching. Below `control_client.TIMEOUT_S`."""
DROP_ANSWER_S = 10.0
"""How long a drop waits for the word of the other nodes that serve the model (<= 3 s on a good network)."""
DROP_POLL_S = 0.05
CLIENT_REFUSAL = OperatorResult(
    False, "This node is a client: it uses the mesh and does not steer it. Ask a full member."
)


class OperatorDoor:
    """Turns requests into events and waits until the core has taken them."""

    def __init__(
        self,
        driver: Driver,
        mesh: Side,
        load: Callable[[str], "asyncio.Task[str]"],
        request_stop: Callable[[str], None],
    ) -> None:
        """`load` begins to fetch a model; its task returns why not, or nothing, and outlives the asking."""
        self._driver = driver
        self._side = mesh
        self._member = mesh if isinstance(mesh, MeshSide) else None
        """None: a client, which may use the mesh and not steer it."""
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
            return OperatorResult(True, f"{name} takes no more requests; open answers may finish.")
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
        deadline = asyncio.get_running_loop().time() + DROP_ANSWER_S
        while left := self._hosts_elsewhere(name):
            if asyncio.get_running_loop().time() > deadline:
                text = f"{name} was dropped, but {', '.join(left)} did not confirm it yet."
                return OperatorResult(False, f"{text} `mesh-llm status` shows when it does.")
            await asyncio.sleep(DROP_POLL_S)
        where = ", ".join(sorted(set(hosts)))
        return OperatorResult(True, f"{name} takes no more requests (on {where}).")

    async def load(self, model: str) -> OperatorResult:
        """Serve a model that is on disk, in the catalogue or on the hub."""
        if self._member is None:
            return CLIENT_REFUSAL
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

    async def forget(self, node_id: str) -> OperatorResult:
        """Take a node that is gone off the lists."""
        found = self._node_called(node_id)
        if isinstance(found, OperatorResult):
            return found
        name, state = found.get("name"), found.get("state")
        if state not in ("dead", "left"):
            return OperatorResult(
                False, f"{name} is {state}: only a node that died or left can be forgotten."
            )
        self._driver.post(ev.PeerForgotten(NodeId(found["id"])))
        await self._driver.settled()
        return OperatorResult(True, f"{name} is off the lists; it may come back by itself.")

    async def revoke(self, node_id: str) -> OperatorResult:
        """Withdraw a node's membership."""
        if self._member is None:
            return CLIENT_REFUSAL
        if node_id == self._driver.node.me.node_id:
            return OperatorResult(False, "A node cannot revoke itself; do it from another machine.")
        found = self._node_called(node_id)
        if isinstance(found, OperatorResult):
            return found
        self._member.revoke(NodeId(found["id"]))
        await self._driver.settled()
        text = f"{found['name']} is no longer a member; its id can never come back."
        return OperatorResult(True, text)

    async def approve(self, node_id: str) -> OperatorResult:
        """Let a waiting machine in."""
        if self._member is None:
            return CLIENT_REFUSAL
        waiting = [e for e in self._member.approvals.waiting() if e["id"].startswith(node_id)]
        if not node_id or len(waiting) != 1:
            return OperatorResult(
                False, f"No machine with the id {node_id[:12]} waits to be let in."
            )
        self._member.approvals.approve(NodeId(waiting[0]["id"]))
        text = f"{waiting[0]['name']} may come in; it asks again within a minute."
        return OperatorResult(True, text)

    async def diagnose(self, peer: str) -> OperatorResult:
        """Check this node and the ways between it and the others."""
        node = self._driver.node
        checks = await diagnose(
            node.shown,
            self._side.transport,
            node.own.addresses,
            tuple(node.members.present()),
            peer,
        )
        bad = sum(check["state"] == "failed" for check in checks)
        text = (
            f"{bad} of {len(checks)} checks failed." if bad else f"All {len(checks)} checks passed."
        )
        return OperatorResult(True, text, {"checks": checks})

    def _node_called(self, node_id: str) -> dict[str, Any] | OperatorResult:
        """Return the ``peer/`` entry of the node with this id, or an unambiguous beginning of it."""
        entries = self._driver.node.members.entries(0.0).values()
        found = [e for e in entries if node_id and e["id"].startswith(node_id)]
        if len(found) == 1:
            return found[0]
        return OperatorResult(False, f"No single node of this mesh has the id {node_id[:12]}.")

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
