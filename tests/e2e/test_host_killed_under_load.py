"""One of two hosts killed with SIGKILL under 32 clients, on real processes and engines: no client waits.

Streams that had begun on the dead one end with an explicit error within a second; all that had not are
answered by the other. The entry is a passive client: no gossip helps it.
"""

import asyncio
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.node_process import NodeProcess
from tests.e2e.test_scenario_6_two_models import hosts, served

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]

CLIENTS = 32
TOLD_WITHIN_S = 1.0
BEGUN_BEFORE_KILL = 4
"""Streams that run on the host when it is killed: as many as its engine has slots, or nearly."""


@dataclass
class Seen:
    """One client's request, as it went."""

    node: str = ""
    status: int = 0
    body: bytes = b""
    ended_s: float = 0.0


async def stream(port: int, seen: Seen) -> None:
    fields = {
        "model": "tiny",
        "prompt": "mesh",
        "stream": True,
        "max_tokens": 400,
        "temperature": 0,
    }
    body = json.dumps({**fields, "ignore_eos": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    seen.status = int(lines[0].split()[1])
    seen.node = next((at.split(": ")[1] for at in lines if at.startswith("x-mesh-node")), "")
    while chunk := await reader.read(65536):
        seen.body += chunk
    seen.ended_s = time.monotonic()
    writer.close()


async def kill_under(
    entry: NodeProcess, dying: NodeProcess, dying_id: str
) -> tuple[list[Seen], float]:
    """Return what 32 clients saw, and when the host was killed."""
    port = int(entry.api.rpartition(":")[2])
    seen = [Seen() for _ in range(CLIENTS)]
    asking = [asyncio.create_task(stream(port, one)) for one in seen]
    async with asyncio.timeout(30):
        while sum(one.node == dying_id and bool(one.body) for one in seen) < BEGUN_BEFORE_KILL - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # Looking through the system's processes takes a loaded machine half a second: not on the clients' time.
    await asyncio.to_thread(dying.children)
    killed_s = time.monotonic()
    dying.process.send_signal(signal.SIGKILL)
    async with asyncio.timeout(90):
        await asyncio.gather(*asking)
    return seen, killed_s


def test_host_killed_under_32_clients_leaves_none_without_a_word(
    made: MeshProcesses, models_dir: Path
) -> None:
    model = str(models_dir / "tiny.gguf")
    a = made.start("box-a", "--model", model, until="ready")
    b = made.start("box-b", "--model", model, join=made.token("box-a"), until="ready")
    a.wait_for(lambda: hosts(a, "tiny") == 2, "both hosts")
    entry = made.start("lite", "--client", join=made.token("box-a"))
    entry.wait_for(lambda: served(entry) == {"tiny"}, "the model")
    a_id, b_id = (node.status()["node_id"] for node in (a, b))
    seen, killed_s = asyncio.run(kill_under(entry, b, b_id))
    assert {one.status for one in seen} == {200}, "nothing that had not begun failed"
    broken = [one for one in seen if b"[DONE]" not in one.body]
    for one in broken:
        assert one.node == b_id
        assert b"event: error\ndata: " in one.body
        assert one.ended_s - killed_s <= TOLD_WITHIN_S
    assert broken, "streams were running there"
    whole = [one for one in seen if b"[DONE]" in one.body and one.ended_s > killed_s]
    assert {one.node for one in whole} <= {a_id, b_id}
    assert len(whole) + len(broken) >= CLIENTS - 8
