"""`GET /api/status`, and what `mesh-llm status --json` prints: a pure view of the feed's map."""

from typing import Any

from nodes.mesh.snapshot import State

GB = 1e9
SPLIT_KEYS = ("model", "reason", "works_for", "tokens_per_s", "expected_tokens_per_s")
"""What the document says of this node's part in a split, beside `rpc_entries`."""


def status(state: State, seq: int, token: str | None) -> dict[str, Any]:
    """Return the document of the spec; `token` is None for anybody but an operator."""
    node = state.get("node", {})
    resources = state.get("resources", {})
    engine = state.get("engine", {})
    split = state.get("split", {})
    models = [entry for key, entry in sorted(state.items()) if key.startswith("model/")]
    peers = [entry for key, entry in sorted(state.items()) if key.startswith("peer/")]
    warm = next((m for m in models if m["status"] == "warm"), None)
    first = warm or (models[0] if models else None)
    my_vram_gb = 0.0 if node.get("is_client") else resources.get("offered_bytes", 0) / GB
    document: dict[str, Any] = {
        "node_id": node.get("node_id", ""),
        "name": node.get("name", ""),
        "version": node.get("version", ""),
        "role": node.get("role", ""),
        "state": node.get("state", ""),
        "is_host": bool(node.get("is_host")),
        "is_client": bool(node.get("is_client")),
        "llama_ready": warm is not None,
        "model_name": first["name"] if first else None,
        "draft_name": first.get("draft") if first else None,
        "draft_acceptance": first.get("draft_acceptance") if first else None,
        "api_port": node.get("api_port"),
        "console_port": node.get("console_port"),
        "quic_port": node.get("quic_port"),
        "my_vram_gb": round(my_vram_gb, 2),
        "mesh_vram_gb": round(my_vram_gb + sum(p.get("vram_gb") or 0.0 for p in peers), 2),
        "rpc_entries": split.get("rpc_entries", []),
        "tensor_split": split.get("tensor_split"),
        "split": {key: split.get(key) for key in SPLIT_KEYS} if split.get("model") else None,
        "peers": peers,
        "mesh_models": [
            {key: m[key] for key in ("name", "status", "state", "reason", "node_count", "nodes")}
            for m in models
        ],
        "engine": {key: engine.get(key) for key in ("version", "rpc_version", "starts")},
        "seq": seq,
    }
    if token is not None:
        document["token"] = token
    return document
