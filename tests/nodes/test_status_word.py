"""`mesh-llm status` in words: what a person reads of a split, as its host and as its worker."""

import io
from typing import Any

from rich.console import Console

from meshsite.status import status
from nodes.management.commands.status import shown

LANE: dict[str, Any] = {"bytes_sent": 1_500_000, "bytes_saved": 900_000_000, "bytes_per_s": 2e6}
HOST: dict[str, Any] = {
    "model": "big",
    "reason": "big runs over 2 nodes",
    "rpc_entries": [
        {"node_id": "aa", "share": 0.67, "layers": 24, "via": "local", "rtt_ms": None},
        {"node_id": "bb", "share": 0.33, "layers": 12, "via": "lane", "rtt_ms": 0.8, **LANE},
    ],
    "tensor_split": [0.67, 0.33],
    "tokens_per_s": 7.5,
    "expected_tokens_per_s": 9.0,
}
WORKER: dict[str, Any] = {
    "model": "big",
    "reason": "works for the split of attic",
    "rpc_entries": [],
    "tensor_split": None,
    "works_for": {"node_id": "bb", "layers": 12, "via": "quic", **LANE},
}


def printed(split: dict[str, Any]) -> str:
    """Return what is printed by a node with this ``split`` entry and one peer, attic."""
    peer = {"id": "bb", "name": "attic", "state": "alive", "role": "worker", "serving": [],
            "vram_gb": 8.0, "rtt_ms": 0.8, "version": "0.1.0"}  # fmt: skip
    node = {"node_id": "aa", "name": "studio", "version": "0.1.0", "role": "host",
            "state": "serving", "api_port": 9337, "console_port": None}  # fmt: skip
    state = {
        "node": node,
        "split": split,
        "peer/bb": peer,
        "engine": {"version": "0.7.0", "starts": 2},
    }
    said = io.StringIO()
    Console(file=said, width=200).print(shown(status(state, 1, None)))
    return said.getvalue()


def test_host_tells_who_computes_how_much_and_what_crossed_the_lane() -> None:
    said = printed(HOST)
    assert "big is split over 2 nodes; 7.5 tokens/s now, about 9.0 expected for one answer" in said
    assert "  studio: 24 layers (67%)\n" in said
    assert "  attic: 12 layers (33%) over TCP, 1.5 MB sent, 900.0 MB saved, 2.0 MB/s now" in said


def test_worker_tells_whom_it_works_for_and_that_tcp_does_not_get_through() -> None:
    said = printed(WORKER)
    assert "Works for big, split by attic: 12 layers over QUIC, as TCP does not get through" in said


def test_node_without_a_split_says_nothing_of_it() -> None:
    assert "split" not in printed({"rpc_entries": [], "tensor_split": None})
