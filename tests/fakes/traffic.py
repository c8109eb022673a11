"""An hour of scripted requests: records for the charts, documents for the list."""

import random
import time
from typing import Any

from proxy.records import Outcome, RequestRecord
from proxy.series import RequestSeries
from tests.fakes.node_handle import NODE_ID, ScriptedNode
from tests.fakes.scenes import peer_id


def record(**changes: Any) -> RequestRecord:
    """Return a finished request: streamed and answered unless told otherwise."""
    fields: dict[str, Any] = {
        "id": "req-1", "path": "/v1/chat/completions", "model": "qwen3-8b", "node": NODE_ID,
        "status": 200, "streamed": True, "ttfb_ms": 60.0, "total_ms": 2400.0, "tokens": 90,
        "outcome": Outcome.ANSWERED, "retries": 0, "prompt_tokens": 240,
    }  # fmt: skip
    return RequestRecord(**(fields | changes))


def document(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a request as `proxy.request_story` tells it."""
    told = {
        "id": f"req-{number}", "ended": time.time() - number, "path": "/v1/chat/completions",
        "asked": "qwen3-8b", "model": "qwen3-8b", "node": NODE_ID, "node_name": "study",
        "asked_by": "", "status": 200, "outcome": "answered", "streamed": True, "ttfb_ms": 61.2,
        "total_ms": 2400.0, "tokens": 90, "prompt_tokens": 240, "hosts": 1, "fault": "",
        "candidates": [{"node": NODE_ID, "name": "study", "reason": "only"}], "tries": [],
        "text": ["study was asked: nobody else serves the model.", "study answered with status 200."],
    }  # fmt: skip
    return told | changes


def retried(number: int = 2) -> dict[str, Any]:
    """Return a request that one host could not answer and another did."""
    return document(
        number, model="llama-3.3-70b", node=peer_id(7), node_name="hall", total_ms=5230.0, hosts=2,
        tries=[
            {"node": peer_id(1), "name": "barn", "reason": "closed the stream", "after_ms": 12.0}
        ],
        text=[
            "barn was asked first: by load.", "barn closed the stream (12 ms).",
            "hall answered with status 200 after 96 ms, 140 tokens; 5.2 s in all.",
        ],
    )  # fmt: skip


def failure(number: int = 3) -> dict[str, Any]:
    """Return a request that nobody could answer."""
    return document(
        number, model="", node_name="", asked="gpt-5", status=404, outcome="refused", ttfb_ms=None,
        total_ms=0.4, tokens=0, candidates=[], hosts=0,
        text=["It was answered with an error, status 404: Nobody serves 'gpt-5'."],
    )  # fmt: skip


def play(node: ScriptedNode) -> None:
    """Give the node an hour of traffic."""
    chance = random.Random(3)
    now = time.time()
    node.series = RequestSeries(now - 86_400)
    for minute in range(60, -1, -1):
        for model, where, usual in (
            ("qwen3-8b", NODE_ID, 9), ("llama-3.3-70b", peer_id(1), 4), ("gemma-3-27b", peer_id(4), 2)
        ):  # fmt: skip
            for _ in range(max(0, int(chance.gauss(usual, 2)))):
                ttfb = chance.lognormvariate(4.2, 0.5)
                status = 503 if chance.random() < 0.02 else 200
                made = record(
                    model=model,
                    node=where,
                    ttfb_ms=ttfb,
                    status=status,
                    tokens=chance.randrange(20, 400),
                )
                node.series.add(made, now - minute * 60)
    usual_ones = [document(number, ttfb_ms=chance.uniform(30, 200)) for number in range(4, 30)]
    node.requests = [document(1), retried(2), failure(3), *usual_ones]
