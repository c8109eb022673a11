"""What an operator may ask about the machines of the mesh: drain, forget, revoke, block, approve, reject.

The half of `operator_door` that is not about models or tokens. Every answer is the true outcome: what
concerns another node is waited for, and called unconfirmed where its word does not come in time.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from meshsite.diagnosis import diagnose
from meshsite.mesh_side import MeshSide
from meshsite.side import Side
from nodes.mesh import events as ev
from nodes.mesh.drains import DRAINED_ROLE
from nodes.mesh.ids import NodeId
from nodes.mesh.routing import ModelState
from nodes.runtime.driver import Driver
from nodes.runtime.handle import OperatorResult, Outcome
from nodes.runtime.mesh_key import MeshKeyError
from nodes.runtime.token_ledger import TokenLedgerError

CONFIRM_S = 10.0
"""How long an action waits for the word of the other nodes that it is about (<= 3 s on a good network)."""
CONFIRM_POLL_S = 0.05
CLIENT_REFUSAL = OperatorResult(
    False, "This node is a client: it uses the mesh and does not steer it. Ask a full member."
)


class MemberDoor:
    """Actions about machines."""

    def __init__(self, driver: Driver, mesh: Side) -> None:
        self._driver = driver
        self._side = mesh
        self._member = mesh if isinstance(mesh, MeshSide) else None
        """None: a client, which may use the mesh and not steer it."""

    async def drain(self, node_id: str) -> OperatorResult:
        """Let a node serve nothing until it is undrained or started again; it stays a member."""
        return await self._set_drained(node_id, True)

    async def undrain(self, node_id: str) -> OperatorResult:
        """Let a drained node serve again."""
        return await self._set_drained(node_id, False)

    async def _set_drained(self, node_id: str, drained: bool) -> OperatorResult:
        if self._member is None:
            return CLIENT_REFUSAL
        me = self._driver.node.me
        if not node_id or node_id == me.node_id:
            return await self._set_drained_here(me.name, drained)
        found = self._node_called(node_id)
        if isinstance(found, OperatorResult):
            return found
        name = found["name"]
        if found["state"] in ("dead", "left"):
            return OperatorResult(False, f"{name} is {found['state']}: it serves nothing anyway.")
        if (found["role"] == DRAINED_ROLE) is drained:
            return _already(name, drained)
        peer = NodeId(found["id"])
        self._driver.post(ev.DrainRequested(peer, drained))
        await self._driver.settled()
        if not await self._confirmed(lambda: (self._role_of(peer) == DRAINED_ROLE) is drained):
            text = f"{name} was asked to {_verb(drained)}, but did not confirm it yet."
            return OperatorResult(
                False, f"{text} Its state shows when it does.", outcome=Outcome.UNCONFIRMED
            )
        return _drain_told(name, drained, self._draining_on(peer))

    async def _set_drained_here(self, name: str, drained: bool) -> OperatorResult:
        serving = self._driver.node.serving
        if serving.stopping:
            return OperatorResult(False, f"{name} is stopping.")
        if serving.drained is drained:
            return _already(name, drained)
        self._driver.post(ev.DrainRequested(self._driver.node.me.node_id, drained))
        await self._driver.settled()
        return _drain_told(name, drained, any(slot.run for slot in serving.slots.values()))

    async def _confirmed(self, seen: Callable[[], bool]) -> bool:
        """Return whether `seen` came true within `CONFIRM_S`."""
        deadline = asyncio.get_running_loop().time() + CONFIRM_S
        while not seen():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(CONFIRM_POLL_S)
        return True

    def _role_of(self, peer: NodeId) -> str:
        view = self._driver.node.members.get(peer)
        return view.announcement.role if view else ""

    def _draining_on(self, peer: NodeId) -> bool:
        upstreams = self._driver.node.members.upstreams()
        return any(u.node_id == peer and u.state is ModelState.DRAINING for u in upstreams)

    async def forget(self, node_id: str) -> OperatorResult:
        """Take a node that is gone off this node's lists."""
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
        return OperatorResult(True, f"{name} is off this node's lists; it may come back by itself.")

    async def revoke(self, node_id: str) -> OperatorResult:
        """Withdraw a node's membership."""
        found = self._to_expel(node_id)
        if isinstance(found, OperatorResult):
            return found
        await self._expel(NodeId(found["id"]))
        text = f"{found['name']} is no longer a member; its id can never come back."
        return OperatorResult(True, text)

    async def block(self, node_id: str) -> OperatorResult:
        """Withdraw a node's membership, and the invite tokens by which its machine could come anew."""
        found = self._to_expel(node_id)
        if isinstance(found, OperatorResult):
            return found
        name, peer = found["name"], NodeId(found["id"])
        await self._expel(peer)
        assert self._member is not None
        records = self._member.ledger.records()
        came_by = [r.token_id for r in records if peer in r.redeemed_by]
        gave_out = [r.token_id for r in records if r.issuer == peer]
        try:
            if not came_by:
                # It may hold any token: only a new key of the mesh ends those that are not known here.
                self._member.rotate()
                return OperatorResult(
                    True,
                    f"{name} is blocked. Which token it came by is not known on this node, so the mesh "
                    "has a new key: every invite token of before has ended. Members stay.",
                )
            for token_id in dict.fromkeys((*came_by, *gave_out)):
                self._member.revoke_token(token_id)
        except (TokenLedgerError, MeshKeyError) as error:
            text = f"{name} is no longer a member, but its invite tokens still hold: {error}"
            return OperatorResult(False, text, outcome=Outcome.UNCONFIRMED)
        count = len({*came_by, *gave_out})
        tokens = "The token that it came by lets" if count == 1 else f"{count} tokens of its let"
        return OperatorResult(True, f"{name} is blocked. {tokens} nobody in any more.")

    def _to_expel(self, node_id: str) -> dict[str, Any] | OperatorResult:
        if self._member is None:
            return CLIENT_REFUSAL
        if node_id == self._driver.node.me.node_id:
            return OperatorResult(False, "A node cannot revoke itself; do it from another machine.")
        return self._node_called(node_id)

    async def _expel(self, peer: NodeId) -> None:
        assert self._member is not None
        self._member.revoke(peer)
        await self._driver.settled()

    async def approve(self, node_id: str) -> OperatorResult:
        """Let a waiting machine in."""
        found = self._waiting_called(node_id)
        if isinstance(found, OperatorResult):
            return found
        assert self._member is not None
        self._member.approvals.approve(NodeId(found["id"]))
        text = f"{found['name']} may come in; it asks again within a minute."
        return OperatorResult(True, text, outcome=Outcome.BEGUN)

    async def reject(self, node_id: str) -> OperatorResult:
        """Turn a waiting machine away."""
        found = self._waiting_called(node_id)
        if isinstance(found, OperatorResult):
            return found
        assert self._member is not None
        self._member.approvals.reject(NodeId(found["id"]))
        text = f"{found['name']} is not let in; it is told so when it asks again, within a minute."
        return OperatorResult(True, text)

    def _waiting_called(self, node_id: str) -> dict[str, Any] | OperatorResult:
        if self._member is None:
            return CLIENT_REFUSAL
        waiting = [e for e in self._member.approvals.waiting() if e["id"].startswith(node_id)]
        if not node_id or len(waiting) != 1:
            return OperatorResult(
                False, f"No machine with the id {node_id[:12]} waits to be let in."
            )
        return waiting[0]

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
        """Return the ``peer/`` entry of the node with this id or name, or an unambiguous beginning."""
        entries = self._driver.node.members.entries(0.0).values()
        named = [e for e in entries if e["name"] == node_id]
        found = named or [e for e in entries if node_id and e["id"].startswith(node_id)]
        if len(found) == 1:
            return found[0]
        return OperatorResult(False, f"No single node of this mesh is called {node_id[:40]}.")


def _verb(drained: bool) -> str:
    return "drain" if drained else "serve again"


def _already(name: str, drained: bool) -> OperatorResult:
    return OperatorResult(False, f"{name} is {'drained already' if drained else 'not drained'}.")


def _drain_told(name: str, drained: bool, runs_out: bool) -> OperatorResult:
    if not drained:
        text = f"{name} serves again what its own operator asked for, and what the mesh needs."
        return OperatorResult(True, text, outcome=Outcome.BEGUN)
    if runs_out:
        text = (
            f"{name} takes no new requests; open answers may finish, then its models are unloaded."
        )
        return OperatorResult(True, text, outcome=Outcome.BEGUN)
    text = f"{name} is drained: it serves nothing until it is undrained or started again."
    return OperatorResult(True, text)
