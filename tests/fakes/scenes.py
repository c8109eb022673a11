"""Meshes to look at: what a viewer sees of 1 to 100 machines, loading, split, dead, failed or empty.

Each scene is the map of `nodes.mesh.snapshot` and the history beside it; used by the screenshots and
by the browser tests.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.node_handle import NODE_ID, ScriptedNode, model_entry, node_entry, serving_state

GB = 1_000_000_000
NAMES = (
    "attic", "barn", "cellar", "desk", "elm", "forge", "garage", "hall", "iris", "juniper", "kiln",
    "loft",
)  # fmt: skip


@dataclass
class Scene:
    """One mesh to look at."""

    state: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)

    def play(self, node: ScriptedNode) -> None:
        """Make the node's map this scene's, whatever it was before."""
        gone = tuple(key for key in node.feed.state if key not in self.state)
        node.feed.publish(self.state, gone)
        for entry in self.history:
            node.feed.record(entry)


def peer_id(number: int) -> str:
    """Return the id of the scripted peer of this number."""
    return f"{number:02x}" * 32


def peer_entry(number: int, **changes: Any) -> dict[str, Any]:
    """Return a `peer/<id>` entry: alive, hosting nothing, unless told otherwise."""
    entry = {
        "id": peer_id(number), "name": NAMES[number % len(NAMES)] + (
            f"-{number // len(NAMES)}" if number >= len(NAMES) else ""
        ),
        "role": "standby", "state": "alive", "serving": [], "vram_gb": 24.0, "rtt_ms": 0.4 + number % 7,
        "version": "0.1.0", "addresses": [f"192.0.2.{number % 250}:41{number:03d}"], "on_disk": [],
        "wanted": [], "used_gb": 0.0, "in_flight": 0, "tokens_per_s": 0.0, "lane": None,
        "since": time.time() - 3600 - 60 * number,
    }  # fmt: skip
    return {**entry, **changes}


def event(text: str, ago_s: float = 60, level: str = "info", **more: Any) -> dict[str, Any]:
    """Return a history entry of `ago_s` seconds ago."""
    entry = {
        "at": time.time() - ago_s, "kind": "event", "level": level, "text": text, "model": "",
        "node": "",
    }  # fmt: skip
    return {**entry, **more}


def host_of(node_id: str, **changes: Any) -> dict[str, Any]:
    """Return one entry of a model's `hosts`."""
    entry = {
        "node_id": node_id, "state": "ready", "slots": 4, "context": 8192, "in_flight": 1,
        "tokens_per_s": 38.2, "ttfb_p50_ms": 64.0,
    }  # fmt: skip
    return {**entry, **changes}


def _base() -> dict[str, Any]:
    state = serving_state()
    del state["model/mesh-demo"]
    return state


def _model(name: str, hosts: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    ids = [host["node_id"] for host in hosts]
    entry = model_entry(
        name, hosts=hosts, nodes=ids, node_count=len(ids), on_disk=ids, wanted_by=ids,
        dropped=False, in_flight=sum(h["in_flight"] for h in hosts), title="",
        tokens_per_s=sum(h["tokens_per_s"] for h in hosts), size_bytes=5 * GB, need_bytes=7 * GB,
        context=8192, architecture="qwen3", quantisation="Q4_K_M", parameters=8_200_000_000, layers=36,
    )  # fmt: skip
    return {f"model/{name}": {**entry, **changes}}


def one() -> Scene:
    """A machine alone with its model."""
    state = _base() | _model("qwen3-8b", [host_of(NODE_ID)], capabilities=["tools"])
    history = [
        event("study started.", 4000),
        event("qwen3-8b is to be served.", 3990, model="qwen3-8b"),
        event("The engine of qwen3-8b starts.", 3989, model="qwen3-8b"),
        event("qwen3-8b answers on study.", 3975, model="qwen3-8b"),
    ]
    return Scene(state, history)


def three() -> Scene:
    """Two hosts of different models and a standby."""
    barn = peer_entry(
        1, role="host", serving=["llama-3.3-70b"], vram_gb=64.0, used_gb=46.2, in_flight=2,
        tokens_per_s=21.4, on_disk=["llama-3.3-70b"],
    )  # fmt: skip
    cellar = peer_entry(2, vram_gb=16.0, rtt_ms=12.7, on_disk=["qwen3-8b"])
    state = _base() | {f"peer/{p['id']}": p for p in (barn, cellar)}
    state |= _model("qwen3-8b", [host_of(NODE_ID)], capabilities=["tools"], requests_per_s=0.4)
    state |= _model(
        "llama-3.3-70b", [host_of(peer_id(1), in_flight=2, tokens_per_s=21.4)], layers=80,
        size_bytes=42 * GB, need_bytes=47 * GB, architecture="llama", parameters=70_600_000_000,
        capabilities=["tools", "vision"],
    )  # fmt: skip
    history = [
        *one().history,
        event("barn joined.", 3600, node=peer_id(1)),
        event("llama-3.3-70b answers on barn.", 3500, model="llama-3.3-70b", node=peer_id(1)),
        event("cellar joined.", 1800, node=peer_id(2)),
        event("cellar stands by: nothing is unserved that it has.", 1790, node=peer_id(2)),
    ]
    return Scene(state, history)


def split() -> Scene:
    """One model over three machines, a solo host beside, one machine standing by, one waiting."""
    workers = [(1, 0.31, "lane"), (2, 0.22, "quic")]
    state = three().state
    del state["model/llama-3.3-70b"], state["model/qwen3-8b"]
    shares = [{"node_id": NODE_ID, "via": "local", "share": 0.47, "layers": 44}] + [
        {
            "node_id": peer_id(n), "via": via, "share": share, "layers": int(share * 94),
            "rtt_ms": 0.6 * n, "bytes_per_s": 9.1e6, "bytes_sent": 3.1e9, "bytes_saved": 4e9,
        }
        for n, share, via in workers
    ]  # fmt: skip
    state["split"] = {
        "model": "qwen3-235b", "rpc_entries": shares, "tensor_split": [0.47, 0.31, 0.22],
        "reason": "", "tokens_per_s": 9.4, "expected_tokens_per_s": 10.1,
    }  # fmt: skip
    state |= _model(
        "qwen3-235b", [host_of(NODE_ID, tokens_per_s=9.4)], size_bytes=132 * GB, layers=94,
        need_bytes=140 * GB, parameters=235_000_000_000, ttfb_p50_ms=310.0,
    )  # fmt: skip
    state["resources"] |= {"offered_bytes": 72 * GB, "used_bytes": 66 * GB}
    for number, share, via in workers:
        state[f"peer/{peer_id(number)}"] = peer_entry(
            number, role="worker", vram_gb=64.0 if number == 1 else 36.0, used_gb=140 * share,
            rtt_ms=0.6 * number, lane="tcp" if via == "lane" else "quic",
        )  # fmt: skip
    hall = peer_entry(7, role="host", serving=["qwen3-8b"], used_gb=6.6, tokens_per_s=38.2)
    state[f"peer/{hall['id']}"] = hall
    state[f"peer/{peer_id(4)}"] = peer_entry(4, vram_gb=16.0)
    state |= _model("qwen3-8b", [host_of(peer_id(7))], capabilities=["tools"])
    state[f"pending/{peer_id(9)}"] = {
        "id": peer_id(9), "name": "juniper", "software": "0.1.0", "address": "192.0.2.9:41009",
        "since": time.time() - 40,
    }  # fmt: skip
    history = [
        event("barn joined.", 900, node=peer_id(1)),
        event("cellar joined.", 880, node=peer_id(2)),
        event(
            "study was elected to host qwen3-235b, split over study, barn and cellar.", 870,
            kind="election", model="qwen3-235b", node=NODE_ID,
        ),
        event("qwen3-235b answers on study.", 800, model="qwen3-235b", node=NODE_ID),
        event("juniper asks to join: an operator has to approve it.", 40, node=peer_id(9)),
    ]  # fmt: skip
    return Scene(state, history)


def many(count: int) -> Scene:
    """A mesh of `count` machines with every state among them."""
    chance = random.Random(count)
    models = ["qwen3-8b", "llama-3.3-70b", "gemma-3-27b", "phi-4", "nomic-embed"][: 2 + count // 8]
    hosts: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    hosts[models[0]].append(host_of(NODE_ID))
    state = _base()
    for number in range(1, count):
        peer = peer_entry(number, vram_gb=float(chance.choice([16, 24, 32, 64, 96])))
        if chance.random() < 0.7:
            name = models[number % len(models)]
            speed = round(chance.uniform(8, 90), 1)
            busy = chance.randrange(4)
            peer |= {
                "role": "host", "serving": [name], "used_gb": peer["vram_gb"] * chance.uniform(0.3, 0.9),
                "in_flight": busy, "tokens_per_s": speed,
            }  # fmt: skip
            hosts[name].append(host_of(peer["id"], in_flight=busy, tokens_per_s=speed))
        if number % 11 == 5:
            peer["state"] = ("late", "suspect")[number % 2]
        if number % 17 == 9:
            peer |= {"rtt_ms": 41.0, "version": "0.0.9"}
        state[f"peer/{peer['id']}"] = peer
    for name, found in hosts.items():
        state |= _model(name, found)
    return Scene(state, three().history)


def dead() -> Scene:
    """The host of a model died a moment ago."""
    scene = three()
    scene.state[f"peer/{peer_id(1)}"] |= {
        "state": "dead", "serving": [], "in_flight": 0, "tokens_per_s": 0.0, "since": time.time() - 3,
    }  # fmt: skip
    scene.state["model/llama-3.3-70b"] |= {
        "status": "cold", "state": "waiting", "node_count": 0, "nodes": [], "hosts": [],
        "in_flight": 0, "requests_per_s": 0.0, "tokens_per_s": 0.0, "ttfb_p50_ms": None,
        "reason": "Waiting for more peers - need 47.0 GB, have 28.0 GB.",
        "needed": "It needs 47.0 GB: 19.0 GB more memory, or one node like barn.",
    }  # fmt: skip
    scene.history += [
        event("barn does not answer: it is suspected.", 9, "warning", node=peer_id(1)),
        event("barn is dead: nobody reaches it any more.", 3, "error", node=peer_id(1)),
        event(
            "llama-3.3-70b has lost its last host and is cold.", 3, "warning", model="llama-3.3-70b"
        ),
    ]
    return scene


def drained() -> Scene:
    """The host of a model was drained, and another machine loads its model."""
    scene = three()
    scene.state[f"peer/{peer_id(1)}"] |= {
        "role": "drained", "serving": [], "vram_gb": 0.0, "used_gb": 0.0, "in_flight": 0,
        "tokens_per_s": 0.0,
    }  # fmt: skip
    loads = host_of(peer_id(2), state="loading", in_flight=0, tokens_per_s=0.0, ttfb_p50_ms=None)
    scene.state["model/llama-3.3-70b"] |= {
        "status": "loading", "state": "loading", "node_count": 0, "nodes": [], "hosts": [loads],
        "in_flight": 0, "requests_per_s": 0.0, "tokens_per_s": 0.0, "ttfb_p50_ms": None,
    }  # fmt: skip
    scene.history += [
        event("barn is drained: it takes no new requests; open answers may finish.", 12, node=peer_id(1)),
        event("cellar takes llama-3.3-70b up.", 9, model="llama-3.3-70b", node=peer_id(2)),
    ]  # fmt: skip
    return scene


def loading() -> Scene:
    """One model loads, another is being downloaded, a third stands cold."""
    state = _base()
    state["node"] = node_entry(state="starting")
    state |= _model(
        "qwen3-8b", [], status="loading", state="loading", phase="Loading weights", progress=0.62,
        node_count=0, ttfb_p50_ms=None, requests=0, tokens=0, requests_per_s=0.0, tokens_per_s=0.0,
    )  # fmt: skip
    state |= _model(
        "gemma-3-27b", [], status="loading", state="resolving", phase="downloading", progress=0.31,
        bytes_per_s=48e6, size_bytes=17 * GB, node_count=0, context=0, slots=0, ttfb_p50_ms=None,
        requests=0, tokens=0, requests_per_s=0.0, tokens_per_s=0.0,
    )  # fmt: skip
    state |= _model(
        "llama-3.3-70b", [], status="cold", state="waiting", node_count=0, size_bytes=42 * GB,
        need_bytes=47 * GB, reason="Waiting for more peers - need 47.0 GB, have 12.0 GB.",
        needed="It needs 47.0 GB: 35.0 GB more memory, or one node with 47 GB.", on_disk=[NODE_ID],
        context=0, slots=0, ttfb_p50_ms=None, requests=0, tokens=0, requests_per_s=0.0,
        tokens_per_s=0.0,
    )  # fmt: skip
    return Scene(state, one().history[:3])


def failed() -> Scene:
    """The engine gave up, and a GPU is not used."""
    state = _base()
    state["node"] = node_entry(state="failed")
    reason = (
        "The engine ended three times within a minute (exit code 1: unknown model architecture "
        "'qwen9'). Install a newer engine, then load the model again."
    )
    state |= _model(
        "qwen9-8b", [], status="cold", state="failed", reason=reason, node_count=0, starts=3,
        ttfb_p50_ms=None, requests=0, tokens=0, requests_per_s=0.0, tokens_per_s=0.0, context=0, slots=0,
    )  # fmt: skip
    text = "NVIDIA RTX 4090 is not used: the installed engine has no CUDA. Install one that has."
    state["notice/gpu-0"] = {"level": "warning", "text": text}
    history = [event(f"qwen9-8b: {reason}", 20, "error", model="qwen9-8b", kind="engine_gave_up")]
    return Scene(state, [*one().history[:1], *history])


def empty() -> Scene:
    """A machine that serves nothing."""
    state = _base()
    state["node"] = node_entry(state="waiting", role="standby", is_host=False)
    state["resources"]["used_bytes"] = 0
    return Scene(state)


SCENES: dict[str, Callable[[], Scene]] = {
    "empty": empty,
    "loading": loading,
    "failed": failed,
    "one": one,
    "three": three,
    "dead": dead,
    "drained": drained,
    "split": split,
    "twelve": lambda: many(12),
    "hundred": lambda: many(100),
}
"""By name, for `make screenshots` and the tests."""
