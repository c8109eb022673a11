"""What tests of splits with real nodes and engines ask of them: who computes what, one answer, a stream.

Memory is what `--max-vram` says, so that who hosts and who works does not depend on the machine.
"""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from models_registry.demo.synthesize import synthesize
from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.node_process import NodeProcess

LAYERS = 12
SHAPE = ("--ctx-size", "2048", "--parallel", "4", "--stop-grace", "1")
"""So small that a split starts within a second, and that nobody waits for streams at the end."""
ALONE_GB = "0.4"
PART_GB = "0.08"
HOST_GB = "0.081"
"""Decimal GB: the whole model with its buffers takes 0.132. It fits the first, not the second, and two of
the second together. The third is a little more, so that this node hosts."""
SPLIT_MAX_S = 30.0
"""From a join to a split that answers: 2 s to settle, rpc-servers, load; beside much else on the machine."""
BACK_MAX_S = 10.0
"""Served again after the loss of a part, without the time of the load (issue 5)."""
LOAD_MAX_S = 5.0
"""What a load of the small model takes on a machine with much else to do."""


def write_model(folder: Path, stem: str = "split") -> Path:
    """Return a model of 12 layers, each of its own; 20 MB."""
    return synthesize(folder / f"{stem}.gguf", "tiny", layers=LAYERS, width=256, feed_forward=704)


@dataclass(frozen=True, slots=True)
class Layout:
    """Who computes a model, as its host's status says."""

    names: tuple[str, ...]
    """Host first."""
    shares: tuple[float, ...]
    layers: tuple[int, ...]


def layout(host: NodeProcess) -> Layout | None:
    """Return who computes the model that this node hosts and that answers; None: nobody does yet."""
    status = host.status()
    if not status["llama_ready"] or status["role"] != "host" or not status["rpc_entries"]:
        return None
    names = {peer["id"]: peer["name"] for peer in status["peers"]}
    names[status["node_id"]] = status["name"]
    entries = status["rpc_entries"]
    return Layout(
        tuple(names.get(entry["node_id"], entry["node_id"]) for entry in entries),
        tuple(entry["share"] for entry in entries),
        tuple(entry.get("layers", LAYERS) for entry in entries),
    )


def wait_parts(host: NodeProcess, *names: str, max_s: float = SPLIT_MAX_S) -> float:
    """Wait until exactly these nodes compute what this one hosts; return after how many seconds."""
    began_s = time.monotonic()

    def there() -> bool:
        found = layout(host)
        return found is not None and sorted(found.names[1:]) == sorted(names[1:])

    assert names[0] == host.status()["name"]
    host.wait_for(there, f"split over {names}", max_s)
    return time.monotonic() - began_s


def forced_pair(made: MeshProcesses, model: Path) -> tuple[NodeProcess, NodeProcess]:
    """Return a host and its worker: the model would fit the host, `--split` forces it over both."""
    a = made.start("box-a", "--model", str(model), "--split", "--max-vram", ALONE_GB, *SHAPE,
                   until="ready")  # fmt: skip
    b = made.start("box-b", "--model", str(model), "--max-vram", "0.2", *SHAPE,
                   join=made.token("box-a"))  # fmt: skip
    wait_parts(a, "box-a", "box-b")
    return a, b


def answer(node: NodeProcess, prompt: str = "What is a mesh?", tokens: int = 24) -> str:
    """Return what the node's API answers at temperature 0."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    status, found = node.post("/v1/completions", body)
    assert status == 200, found
    text: str = found["choices"][0]["text"]
    return text


def answers(node: NodeProcess, max_s: float = 10.0) -> str:
    """Return the same once this node knows that the split answers: its host says so by gossip."""
    node.wait_ready(max_s)
    return answer(node)


def ready_answer(node: NodeProcess, max_s: float) -> str:
    """Return the answer once there is one: requests meanwhile may be refused, never left hanging."""

    def asked() -> str:
        status, found = node.post("/v1/completions", {"prompt": "hi", "max_tokens": 4})
        return str(found["choices"][0]["text"]) or "(empty)" if status == 200 else ""

    found: str = node.wait_for(asked, "answer", max_s)
    return found


def engine_starts(node: NodeProcess) -> int:
    """Return how many engines the node has started."""
    return int(node.status()["engine"]["starts"])


def rpc_process(node: NodeProcess) -> psutil.Process:
    """Return the rpc-server among this node's own children."""
    found = [c for c in node.children() if "rpc-server" in " ".join(c.cmdline()[:1])]
    assert len(found) == 1, [c.cmdline() for c in node.children()]
    return found[0]


@dataclass
class Stream:
    """One streamed answer that a thread reads, with the times at which it began and ended."""

    node: NodeProcess
    tokens: int = 1500
    status: int = 0
    body: bytes = b""
    ended_s: float = 0.0
    fault: str = ""
    _thread: threading.Thread = field(init=False)

    def start(self, after_bytes: int = 500) -> "Stream":
        """Begin, and return when so much of the answer is there."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.node.wait_for(lambda: len(self.body) >= after_bytes or self.ended_s, "a stream")
        assert not self.ended_s, (self.status, self.fault, self.body[-500:])
        return self

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=60)
        fields: dict[str, Any] = {"prompt": "mesh", "stream": True, "max_tokens": self.tokens}
        fields |= {"temperature": 0, "ignore_eos": True}
        try:
            connection.request("POST", "/v1/completions", json.dumps(fields))
            told = connection.getresponse()
            self.status = told.status
            while piece := told.read1(65536):
                self.body += piece
        except (OSError, http.client.HTTPException) as fault:
            self.fault = repr(fault)
        finally:
            self.ended_s = time.monotonic()
            connection.close()

    def wait(self, max_s: float) -> None:
        """Wait for its end."""
        self._thread.join(max_s)
        assert self.ended_s, f"still open after {max_s} s: {self.body[-300:]!r}"

    @property
    def error(self) -> str:
        """Return the message of the SSE error that ended it; empty: there was none."""
        head, _, data = self.body.rpartition(b"event: error\ndata: ")
        return str(json.loads(data.splitlines()[0])["error"]["message"]) if head else ""
