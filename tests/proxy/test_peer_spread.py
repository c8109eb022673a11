"""Two hosts behind real links: even spread, conversations that stay, a kill under load unnoticed."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

from nodes.mesh.routing_order import Reason
from tests.proxy.conftest import eventually
from tests.proxy.fake_upstream import Call, answer_ok, stream_ok
from tests.proxy.peer_lab import BODY, CHAT, Mesh, mesh

CLIENTS = 32


def equal(made: Mesh) -> None:
    """Hosts of the same size: nothing but load and dice decides."""
    made.upstreams[:] = [replace(each, slots=8) for each in made.upstreams]


async def test_two_hosts_share_a_thousand_requests_evenly() -> None:
    async with mesh(hosts=2) as made:
        equal(made)
        gate = asyncio.Semaphore(16)

        async def one() -> bytes:
            async with gate:
                status, headers, _ = await made.api.post(CHAT, b'{"model":"demo"}')
                assert status == 200
                return headers[b"x-mesh-node"]

        answered = Counter(await asyncio.gather(*(one() for _ in range(1_000))))
        assert len(answered) == 2
        assert max(answered.values()) / min(answered.values()) <= 1.3


async def test_host_killed_under_clients_that_wait_fails_none_of_them() -> None:
    async with mesh(hosts=2) as made:
        equal(made)
        dying, other = made.hosts
        begun = asyncio.Event()

        async def waits(call: Call) -> None:
            await begun.wait()
            await stream_ok(call)

        dying.engine.script = other.engine.script = waits
        asking = [asyncio.create_task(made.api.post(CHAT, BODY)) for _ in range(CLIENTS)]
        await eventually(lambda: len(dying.engine.calls) + len(other.engine.calls) == CLIENTS)
        lost = len(dying.engine.calls)
        assert lost >= CLIENTS // 4
        await dying.die()
        begun.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _, _ in answers} == {200}
        assert {headers[b"x-mesh-node"] for _, headers, _ in answers} == {other.id.encode()}
        await eventually(lambda: len(made.api.records) == CLIENTS)
        assert sum(record.retries for record in made.api.records) == lost
        assert made.failed == [dying.id]


async def test_conversation_stays_on_its_host_and_the_record_says_why() -> None:
    async with mesh(hosts=2) as made:
        equal(made)
        for host in made.hosts:
            host.engine.script = answer_ok
        messages = [{"role": "user", "content": "question 0"}]
        hosts = set()
        for turn in range(1, 9):
            body = json.dumps({"model": "demo", "messages": messages}).encode()
            _, headers, _ = await made.api.post(CHAT, body)
            hosts.add(headers[b"x-mesh-node"])
            messages += [
                {"role": "assistant", "content": f"answer {turn}"},
                {"role": "user", "content": f"question {turn}"},
            ]
        assert len(hosts) == 1
        await eventually(lambda: len(made.api.records) == 8)
        choices = [record.choice for record in made.api.records]
        reasons = [choice.places[0].reason for choice in choices if choice is not None]
        assert reasons == [Reason.LOAD, *[Reason.CONVERSATION] * 7]


async def test_what_peers_have_with_an_engine_counts_for_requests_asked_at_its_own_node() -> None:
    async with mesh() as made:
        host = made.hosts[0]
        begun = asyncio.Event()

        async def waits(call: Call) -> None:
            await begun.wait()
            await answer_ok(call)

        host.engine.script = waits
        asking = [asyncio.create_task(made.api.post(CHAT, BODY)) for _ in range(5)]
        await eventually(lambda: host.app.in_flight("demo") == 5)
        live = host.app._router.hosts.of(host.own.key)
        assert live.in_flight == 5
        begun.set()
        await asyncio.gather(*asking)
        await eventually(lambda: live.in_flight == 0)
