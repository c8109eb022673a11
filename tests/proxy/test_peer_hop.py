"""A request through the peer link: what arrives at the engine and at the client is what a local one gives."""

import asyncio
import json
import os

from proxy.records import Outcome
from tests.nodes.link_lab import until
from tests.proxy.conftest import eventually, post
from tests.proxy.fake_upstream import DONE, Call, event, stream_ok
from tests.proxy.peer_lab import BODY, CHAT, Mesh, mesh

OURS = (b"date", b"x-request-id", b"x-mesh-node")


async def both_ways(made: Mesh, raw: bytes) -> tuple[tuple, tuple, bytes, bytes]:
    """Return (answer, answer, engine's view, engine's view): through the link, then straight."""
    host = made.hosts[0]
    through = made.upstreams[:]
    seen = []
    answers = []
    for upstreams in (through, [host.own]):
        made.upstreams[:] = upstreams
        client = await made.api.connect()
        await client.send(raw)
        status, headers, body = await client.answer()
        client.close()
        answers.append((status, {k: v for k, v in headers.items() if k not in OURS}, body))
        seen.append(host.engine.calls[-1].head + host.engine.calls[-1].body)
    made.upstreams[:] = through
    return answers[0], answers[1], seen[0], seen[1]


async def test_engine_and_client_see_the_same_bytes_as_without_the_hop() -> None:
    async def particular(call: Call) -> None:
        more = b"X-Engine: yes\r\nServer: llama.cpp\r\nCache-Control: no-cache\r\n"
        await call.json(b'{"a": "\xc3\xa9", "usage": {"completion_tokens": 2}}', more=more)

    async with mesh() as made:
        made.hosts[0].engine.script = particular
        headers = b"X-Request-Id: mine\r\nX-Custom: 1\r\nX-Custom: 2\r\nAuthorization: Bearer k\r\n"
        raw = post(CHAT + "?a=%20b&c", b'{"model":"demo","x":"\xe2\x82\xac"}', headers)
        hop, straight, seen, seen_straight = await both_ways(made, raw)
        assert hop == straight
        assert seen == seen_straight
        assert b"x-custom: 1\r\nx-custom: 2\r\n" in seen.lower()
        assert b"authorization" not in seen.lower()
        assert hop[1][b"x-engine"] == b"yes"


async def test_statuses_and_bodies_of_errors_pass_unchanged() -> None:
    async with mesh() as made:
        for status in (b"400 Bad Request", b"404 Not Found", b"500 Oops", b"503 Slots", b"418 Tea"):

            async def fault(call: Call, status: bytes = status) -> None:
                await call.json(b'{"error":{"message":"no"}}', status)

            made.hosts[0].engine.script = fault
            hop, straight, _, _ = await both_ways(made, post(CHAT, BODY))
            assert hop == straight
            assert hop[0] == int(status[:3])


async def test_events_arrive_one_by_one_as_the_engine_makes_them() -> None:
    async def stepwise(call: Call) -> None:
        await call.begin_stream()
        for n in range(3):
            await call.chunk(event(n))
            await steps[n].wait()
        await call.chunk(DONE)
        await call.end_stream()

    async with mesh() as made:
        steps = [asyncio.Event() for _ in range(3)]
        made.hosts[0].engine.script = stepwise
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        for n in range(3):
            await client.until(event(n), 2)
            steps[n].set()
        await client.until(DONE, 2)


async def test_large_bodies_pass_both_ways_whole() -> None:
    async with mesh() as made:
        large = os.urandom(3 << 20).hex().encode()

        async def echo(call: Call) -> None:
            await call.json(call.body)

        made.hosts[0].engine.script = echo
        raw = b'{"model":"demo","prompt":"%b"}' % large
        status, _, body = await made.api.post(CHAT, raw)
        assert status == 200
        assert body == raw
        await until(lambda: made.hosts[0].app.peer_desk.taken() == 0)
        assert made.hosts[0].app._bodies.held_bytes == 0


async def test_an_answer_that_comes_before_the_whole_request_was_taken_is_the_answer() -> None:
    async with mesh(host_config={"body_limit_bytes": 1 << 20}) as made:
        raw = b'{"model":"demo","prompt":"%b"}' % (b"x" * (8 << 20))
        status, _, body = await made.api.post(CHAT, raw)
        assert status == 413
        assert json.loads(body)["error"]["code"] == "request_too_large"
        link = made.entry.transport.links[made.hosts[0].id]
        await until(lambda: not link.active_streams)


async def test_a_client_of_the_mesh_is_served_like_a_member() -> None:
    async with mesh(client=True) as made:
        made.hosts[0].engine.script = stream_ok
        status, _, body = await made.api.post(CHAT, BODY)
        assert status == 200
        assert body.endswith(DONE)


async def test_get_and_delete_of_a_passed_path_reach_the_engine() -> None:
    async with mesh() as made:
        assert (await made.api.get("/v1/stream?id=7"))[0] == 200
        assert made.hosts[0].engine.calls[-1].head.startswith(b"GET /v1/stream?id=7 HTTP/1.1\r\n")
        assert (await made.api.get("/v1/stream?id=7", method="DELETE"))[0] == 200


async def test_both_nodes_keep_a_record_and_only_the_asked_one_counts_usage() -> None:
    async with mesh() as made:
        host = made.hosts[0]
        host.engine.script = stream_ok
        await made.api.post(CHAT, BODY, b"X-Request-Id: same-id\r\n")
        await eventually(lambda: made.api.records and len(host.app.records))
        (asked,) = made.api.records
        (served,) = host.app.records
        assert (asked.id, served.id) == ("same-id", "same-id")
        assert (asked.node, served.node) == (host.id, host.id)
        assert (asked.asked_by, served.asked_by) == ("", made.entry.id)
        assert (asked.tokens, served.tokens) == (3, 3)
        assert served.outcome is Outcome.ANSWERED
        assert served.path == CHAT
        assert host.asked_here == [], "usage is summed where it was asked, and nowhere else"
        text = host.app.metrics.render().decode()
        assert 'mesh_llm_peer_requests_total{model="demo",outcome="answered"} 1.0' in text
        assert "mesh_llm_requests_total{" not in text


async def test_load_counts_where_the_engine_is_and_demand_where_it_was_asked() -> None:
    async def two_and_wait(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0) + event(1))
        await call.client_gone()

    async with mesh() as made:
        host = made.hosts[0]
        host.engine.script = two_and_wait
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(1))
        (sample,) = host.app.load_samples(1.0)
        assert (sample.in_flight, sample.tokens, sample.requests) == (1, 2, 0)
        assert (host.app.in_flight("demo"), host.app.in_flight()) == (1, 1)
        assert made.api.app.load_samples(1.0) == ()
        assert (made.api.app.in_flight("demo"), made.api.app.in_flight()) == (0, 1)
        assert dict(made.api.app.asked()) == {"demo": 1}
        assert dict(host.app.asked()) == {}
        client.close()
        await eventually(lambda: not host.app.in_flight())
        (sample,) = host.app.load_samples(2.0)
        assert (sample.in_flight, sample.requests) == (0, 1)


async def test_links_are_dialled_on_demand_and_shared_by_many_requests() -> None:
    async with mesh(hosts=2) as made:
        assert not made.entry.transport.links
        answers = await asyncio.gather(*(made.api.post(CHAT, BODY) for _ in range(100)))
        assert {status for status, _, _ in answers} == {200}
        assert list(made.entry.transport.links) == [made.hosts[0].id]


async def test_a_table_that_changes_leaves_running_streams_alone() -> None:
    async def stepwise(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await go_on.wait()
        await call.chunk(event(1) + DONE)
        await call.end_stream()

    async with mesh(hosts=2) as made:
        go_on = asyncio.Event()
        for host in made.hosts:
            host.engine.script = stepwise
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(0), 2)
        made.upstreams.clear()
        assert (await made.api.post(CHAT, BODY))[0] == 503
        go_on.set()
        await client.until(event(1) + DONE, 2)
