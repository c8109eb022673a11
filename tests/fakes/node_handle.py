"""A scripted node behind `nodes.runtime.handle`: a real feed, and everything else as told."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from nodes.runtime import handle as node_handle
from nodes.runtime.feed import Feed
from nodes.runtime.handle import NodeHandle, OperatorResult
from proxy.series import RequestSeries

NODE_ID = "ab" * 32
SECRET = "a-home-secret-of-tests"
TOKEN = "mesh-invite-token-of-tests"


def node_entry(**changes: Any) -> dict[str, Any]:
    """Return a `node` entry of the state map."""
    entry = {
        "node_id": NODE_ID, "name": "study", "version": "0.1.0", "role": "host", "is_host": True,
        "is_client": False, "state": "serving", "api_port": 9337, "console_port": 3131,
        "quic_port": None, "api_url": "http://127.0.0.1:9337/v1",
        "console_url": "http://127.0.0.1:3131", "started_at": time.time() - 4000, "mesh_id": "m",
    }  # fmt: skip
    return {**entry, **changes}


def model_entry(name: str, **changes: Any) -> dict[str, Any]:
    """Return a `model/<name>` entry of the state map: warm unless told otherwise."""
    entry = {
        "name": name, "title": "Demo", "status": "warm", "state": "ready", "phase": "",
        "progress": None, "reason": "", "size_bytes": 2_100_000, "architecture": "llama",
        "quantisation": "F16", "parameters": 1_000_000, "layers": 4, "context": 4096, "slots": 4,
        "capabilities": ["tools"], "need_bytes": 40_000_000, "node_count": 1, "nodes": [NODE_ID],
        "starts": 1, "in_flight": 0, "requests": 12, "tokens": 3456, "requests_per_s": 0.2,
        "tokens_per_s": 41.5, "ttfb_p50_ms": 8.0, "draft": None,
        "draft_tokens": 0, "draft_acceptance": None,
    }  # fmt: skip
    return {**entry, **changes}


def serving_state() -> dict[str, Any]:
    """Return the map of a node that serves one model."""
    return {
        "node": node_entry(),
        "engine": {
            "state": "found", "version": "0.7.0", "build": "1", "rpc_version": "1",
            "source": "home", "reason": "", "starts": 1,
        },
        "resources": {
            "offered_bytes": 12_000_000_000, "used_bytes": 3_400_000_000,
            "ram_total_bytes": 16_000_000_000, "ram_available_bytes": 9_000_000_000,
            "cpu_count": 8, "cpu_percent": 12.5, "process_rss_bytes": 98_000_000,
            "engine_rss_bytes": 310_000_000, "devices": [],
        },
        "split": {"rpc_entries": [], "tensor_split": None},
        "model/mesh-demo": model_entry("mesh-demo"),
    }  # fmt: skip


_NO_REASON = {
    "decision": "cold", "term": 0, "sentence": "Nobody asked for it.", "candidates": [], "needed": "",
}  # fmt: skip


class ScriptedLogs:
    """Log lines by model, numbered from 1."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def tail(self, model: str, after: int, limit: int) -> tuple[int, list[str]]:
        fresh = self.lines.get(model, [])[after:]
        left = fresh[-limit:]
        return after + 1 + len(fresh) - len(left), left

    def models(self) -> list[str]:
        return sorted(self.lines)


class ScriptedOperator:
    """Notes what it is asked and answers as told; keeps tokens as the real one does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.result = OperatorResult(True, "Done as asked.")
        self.fault: Exception | None = None
        self.pause_s = 0.0
        self.made: list[dict[str, Any]] = []

    async def _note(self, action: str, target: str) -> OperatorResult:
        self.asked.append((action, target))
        await asyncio.sleep(self.pause_s)
        if self.fault:
            raise self.fault
        return self.result

    async def drop(self, model: str) -> OperatorResult:
        return await self._note("drop", model)

    async def load(self, model: str) -> OperatorResult:
        return await self._note("load", model)

    async def restart(self, model: str) -> OperatorResult:
        return await self._note("restart", model)

    async def stop(self) -> OperatorResult:
        return await self._note("stop", "")

    async def forget(self, node_id: str) -> OperatorResult:
        return await self._note("forget", node_id)

    async def revoke(self, node_id: str) -> OperatorResult:
        return await self._note("revoke", node_id)

    async def block(self, node_id: str) -> OperatorResult:
        return await self._note("block", node_id)

    async def drain(self, node_id: str) -> OperatorResult:
        return await self._note("drain", node_id)

    async def undrain(self, node_id: str) -> OperatorResult:
        return await self._note("undrain", node_id)

    async def approve(self, node_id: str) -> OperatorResult:
        return await self._note("approve", node_id)

    async def reject(self, node_id: str) -> OperatorResult:
        return await self._note("reject", node_id)

    async def rotate(self) -> OperatorResult:
        return await self._note("rotate", "")

    async def why(self, model: str) -> OperatorResult:
        return await self._note("why", model)

    async def diagnose(self, peer: str) -> OperatorResult:
        return await self._note("diagnose", peer)

    async def servable(self) -> OperatorResult:
        models = [
            {"name": "qwen3-8b", "on_disk": True, "size_bytes": 5 * 10**9, "fits": True,
             "verdict": "yes, 8,192 tokens", "capabilities": ["tools"]},
            {"name": "GLM-4.7-Flash", "on_disk": False, "size_bytes": 18 * 10**9, "fits": False,
             "verdict": "no: 7.8 GB short", "capabilities": []},
        ]  # fmt: skip
        return OperatorResult(True, "2 models.", {"models": models})

    async def tokens(self) -> OperatorResult:
        result = await self._note("tokens", "")
        return OperatorResult(result.ok, result.text, {"tokens": list(self.made)})

    async def new_token(
        self, hours: float, uses: int | None, clients_only: bool, label: str
    ) -> OperatorResult:
        result = await self._note("new_token", label)
        if not result.ok:
            return result
        token_id = f"t{len(self.made) + 1}"
        self.made.append(
            {
                "id": token_id, "label": label, "issuer": NODE_ID, "expires_s": hours * 3600,
                "uses_left": uses, "clients_only": clients_only, "revoked": False,
            }
        )  # fmt: skip
        found = {"token": f"{TOKEN}-{token_id}", "id": token_id, "expires_s": hours * 3600}
        return OperatorResult(True, "A fresh token.", found)

    async def revoke_token(self, token_id: str) -> OperatorResult:
        result = await self._note("revoke_token", token_id)
        for row in self.made:
            row["revoked"] |= row["id"] == token_id
        return result


class ScriptedApi:
    """A /v1 application that streams `deltas`, `pause_s` apart, or refuses with `refusal`."""

    def __init__(self) -> None:
        self.deltas: list[dict[str, Any]] = [{"content": "Hello "}, {"content": "there."}]
        self.pause_s = 0.0
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.breaks_off = False
        self.bodies: list[dict[str, Any]] = []
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append(json.loads((await receive())["body"]))
        headers = [(b"x-mesh-node", NODE_ID.encode())]
        if self.refusal:
            status, error = self.refusal
            await send({"type": "http.response.start", "status": status, "headers": headers})
            body = json.dumps({"error": error}).encode()
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for delta in self.deltas:
                await self._event(send, {"choices": [{"delta": delta}]})
                await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if not self.breaks_off:
            usage = {"prompt_tokens": 5, "completion_tokens": len(self.deltas)}
            await self._event(send, {"choices": [], "usage": usage})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def _event(send: Any, chunk: dict[str, Any]) -> None:
        body = f"data: {json.dumps(chunk)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})


class ScriptedNode:
    """The parts of a scripted node; `install` puts it where pages look for it."""

    def __init__(self, **fields: Any) -> None:
        self.feed = Feed()
        self.requests: list[dict[str, Any]] = []
        self.series = RequestSeries(time.time())
        self.reasons: dict[str, dict[str, Any]] = {}
        self.logs = ScriptedLogs()
        self.operator = ScriptedOperator()
        self.api = ScriptedApi()
        self.fields = fields

    def handle(self) -> NodeHandle:
        """Return the handle."""
        status: Callable[[bool], dict[str, Any]] = lambda operator: {  # noqa: E731
            "node_id": NODE_ID, "seq": self.feed.seq, **({"token": TOKEN} if operator else {})
        }  # fmt: skip
        fields: dict[str, Any] = {
            "node_id": NODE_ID, "feed": self.feed, "logs": self.logs, "operator": self.operator,
            "api": self.api, "status": status, "invite_token": lambda: TOKEN,
            "home_secret": SECRET, "loopback_only": True, "metrics": lambda: b"mesh_up 1\n",
            "requests": lambda most: self.requests[:most],
            "why": lambda model: self.reasons.get(model, _NO_REASON | {"model": model}),
            "series": lambda minutes: self.series.document(minutes, time.time()), "can_join": True,
        }  # fmt: skip
        return NodeHandle(**{**fields, **self.fields})

    def install(self) -> "ScriptedNode":
        """Make it the running node of this process."""
        node_handle.install(self.handle())
        return self
