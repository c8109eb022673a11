"""The hop before a real llama-server: the same bytes as without it, and slots that are freed across it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from nodes.mesh.ids import ModelName
from tests.proxy.conftest import post
from tests.proxy.peer_lab import Mesh, behind, mesh
from tests.proxy.real_servers import ask
from tests.proxy.test_engine_passthrough import (
    VARIED,
    _busy,
    real_engine,
    steady,
    without_moods,
)

pytestmark = pytest.mark.engine

__all__ = ["real_engine"]
"""The fixture of the neighbour, used here as well."""

CANCELS = 40
SLOT_IDLE_MAX_S = 0.5


@pytest.fixture
async def made(real_engine: int) -> AsyncIterator[Mesh]:
    async with mesh() as found:
        host = found.hosts[0]
        host.own = replace(host.own, port=real_engine, model=ModelName("tiny"))
        found.upstreams[:] = [behind(host.id, "tiny")]
        yield found


async def test_over_200_varied_requests_are_answered_through_the_hop_as_by_the_engine(
    made: Mesh,
    real_engine: int,
) -> None:
    assert len(VARIED) >= 200
    for path, fields in VARIED:
        raw = post(path, json.dumps({**fields, "cache_prompt": False, "id_slot": 0}).encode())
        straight = await ask(real_engine, raw)
        through = await ask(made.api.port, raw)
        assert through[0] == straight[0], (path, fields)
        assert steady(through[2]) == steady(straight[2]), (path, fields)
        assert without_moods(through[1]) == without_moods(straight[1]), (path, fields)
    assert len(made.hosts[0].app.records) >= 200, "they went through the hop"
    assert made.failed == []


async def test_a_client_that_leaves_frees_the_slot_across_the_hop(
    made: Mesh,
    real_engine: int,
) -> None:
    fields = {"prompt": "a", "max_tokens": 2000, "stream": True, "ignore_eos": True}
    body = json.dumps(fields).encode()
    waits = []
    for _ in range(CANCELS):
        client = await made.api.connect()
        await client.send(post("/v1/completions", body))
        await client.until(b"data: ")
        began = asyncio.get_running_loop().time()
        client.close()
        while await _busy(real_engine):
            assert asyncio.get_running_loop().time() - began < 3
        waits.append(asyncio.get_running_loop().time() - began)
    assert sorted(waits)[int(CANCELS * 0.99) - 1] <= SLOT_IDLE_MAX_S, waits
