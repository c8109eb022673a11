"""Peers, links and engines that fail under a request: who tries next, what is said, what is freed."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from nodes.mesh.routing import ModelState
from proxy.records import Outcome
from tests.nodes.link_lab import until
from tests.proxy.conftest import eventually, post
from tests.proxy.fake_upstream import DONE, Call, event, stream_ok
from tests.proxy.peer_lab import BODY, CHAT, Host, Mesh, behind, mesh
from tests.proxy.test_forward_faults import (
    die,
    die_after_headers,
    die_midway,
    free_port,
    hang,
    loading,
    not_http,
)


async def endless(call: Call) -> None:
    await call.begin_stream()
    while True:
        await call.chunk(event(1))
        await asyncio.sleep(0.02)


def state(value: ModelState) -> Callable[[Host], None]:
    def change(host: Host) -> None:
        host.own = replace(host.own, state=value)

    return change


def without_model(host: Host) -> None:
    host.own = replace(host.own, model="another")  # type: ignore[arg-type]


def only_behind_another_peer(host: Host) -> None:
    """Its own table would forward: what came through a link must not go through another."""
    host.own = behind(host.id)


def stopping(host: Host) -> None:
    host.app.refuse_new()


def full(host: Host) -> None:
    host.app.peer_desk.requests_max = 0


def full_for_this_peer(host: Host) -> None:
    host.app.peer_desk.requests_per_peer_max = 0


def no_engine(host: Host) -> None:
    host.own = replace(host.own, port=free_port())


def engine(script: Callable[[Call], Awaitable[None]]) -> Callable[[Host], None]:
    def change(host: Host) -> None:
        host.engine.script = script

    return change


REFUSING = [
    (state(ModelState.LOADING), 503, "model_loading"),
    (state(ModelState.DRAINING), 503, "nothing_served"),
    (state(ModelState.FAILED), 503, "nothing_served"),
    (without_model, 503, "nothing_served"),
    (only_behind_another_peer, 503, "nothing_served"),
    (stopping, 503, "nothing_served"),
    (full, 503, "overloaded"),
    (full_for_this_peer, 503, "overloaded"),
    (no_engine, 502, "upstream_failed"),
    (engine(die), 502, "upstream_failed"),
    (engine(die_after_headers), 502, "upstream_failed"),
    (engine(loading), 503, "model_loading"),
    (engine(not_http), 502, "upstream_failed"),
]


@pytest.mark.parametrize(("trouble", "status", "code"), REFUSING)
async def test_next_host_answers_and_a_lone_one_is_told_apart(
    trouble: Callable[[Host], None], status: int, code: str
) -> None:
    async with mesh(hosts=2) as made:
        trouble(made.hosts[0])
        made.hosts[1].engine.script = stream_ok
        seen, headers, body = await made.api.post(CHAT, BODY)
        assert seen == 200
        assert body.endswith(DONE)
        assert headers[b"x-mesh-node"] == made.hosts[1].id.encode()
        assert made.api.records[-1].retries == 1
        made.upstreams[:] = made.upstreams[:1]
        seen, headers, body = await made.api.post(CHAT, BODY)
        assert (seen, json.loads(body)["error"]["code"]) == (status, code)
        assert (b"retry-after" in headers) == (status == 503)
        assert made.failed == [], "the link was good: nobody is accused"


async def test_loading_host_tells_how_far_it_is() -> None:
    async with mesh() as made:
        host = made.hosts[0]
        host.own = replace(host.own, state=ModelState.LOADING, progress=0.4, phase="loading")
        _, _, body = await made.api.post(CHAT, BODY)
        error = json.loads(body)["error"]
        assert (error["progress"], error["phase"]) == (0.4, "loading")


async def test_a_host_that_cannot_be_reached_is_reported_and_the_next_one_answers_at_once() -> None:
    async with mesh(hosts=2) as made:
        await made.hosts[0].die()
        began = time.monotonic()
        assert (await made.api.post(CHAT, BODY))[0] == 200
        assert time.monotonic() - began < 1.0
        assert made.failed == [made.hosts[0].id]


async def test_a_host_killed_before_the_first_byte_is_replaced_by_another_within_a_second() -> None:
    async with mesh(hosts=2) as made:
        dying, other = made.hosts
        dying.engine.script = hang
        asking = asyncio.create_task(made.api.post(CHAT, BODY))
        await eventually(lambda: dying.engine.busy)
        began = time.monotonic()
        await dying.die()
        status, headers, _ = await asking
        assert status == 200
        assert headers[b"x-mesh-node"] == other.id.encode()
        assert time.monotonic() - began < 1.0
        assert made.failed == [dying.id]


async def test_a_host_killed_in_the_middle_of_streams_ends_each_with_an_error_within_a_second() -> (
    None
):
    async with mesh() as made:
        host = made.hosts[0]
        host.engine.script = endless
        clients = [await made.api.connect() for _ in range(8)]
        for client in clients:
            await client.send(post(CHAT, BODY))
        for client in clients:
            await client.until(event(1))
        began = time.monotonic()
        await host.die()
        for client in clients:
            rest = await client.until(b"event: error\ndata: ", 2)
            assert b"[DONE]" not in rest
            error = json.loads(await client.until(b"\n\n"))["error"]
            assert error["code"] == "upstream_failed"
            assert "link" in error["message"]
        assert time.monotonic() - began < 1.0
        assert made.failed == [host.id], "reported, and not once for each stream"
        assert {record.outcome for record in made.api.records} == {Outcome.BROKEN_OFF}


async def test_an_engine_that_dies_midway_ends_the_stream_with_an_error_and_accuses_no_node() -> (
    None
):
    async with mesh() as made:
        made.hosts[0].engine.script = die_midway
        status, _, body = await made.api.post(CHAT, BODY)
        assert status == 200
        assert body.startswith(event(0) + event(1) + b"event: error\ndata: ")
        assert json.loads(body.split(b"data: ")[-1])["error"]["code"] == "upstream_failed"
        assert made.failed == []
        await eventually(lambda: len(made.hosts[0].app.records))
        assert [r.outcome for r in made.hosts[0].app.records] == [Outcome.BROKEN_OFF]


async def leave_when_streaming(made: Mesh) -> None:
    client = await made.api.connect()
    await client.send(post(CHAT, BODY))
    await client.until(event(1))
    client.close()


async def test_a_client_that_leaves_midway_frees_the_engine_at_once() -> None:
    async with mesh() as made:
        host = made.hosts[0]
        host.engine.script = endless
        for _ in range(20):
            await leave_when_streaming(made)
            began = time.monotonic()
            await eventually(lambda: not host.engine.busy, 0.5)
            assert time.monotonic() - began < 0.5
            assert not host.app.in_flight()
        await eventually(lambda: len(host.app.records) == 20)
        assert {r.outcome for r in host.app.records} == {Outcome.CLIENT_GONE}


async def test_a_client_that_leaves_before_the_first_byte_frees_the_engine_at_once() -> None:
    async with mesh() as made:
        host = made.hosts[0]
        host.engine.script = hang
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await eventually(lambda: host.engine.busy)
        client.reset()
        await eventually(lambda: not host.engine.busy, 0.5)
        link = made.entry.transport.links[host.id]
        await until(lambda: not link.active_streams)


async def test_the_deadline_travels_and_the_engine_is_freed_when_it_is_over() -> None:
    async with mesh(first_byte_deadline_s=0.3) as made:
        host = made.hosts[0]
        host.engine.script = hang
        began = time.monotonic()
        status, _, _ = await made.api.post(CHAT, BODY)
        assert status == 504
        assert time.monotonic() - began < 1.5
        await eventually(lambda: not host.engine.busy, 0.5)
        assert made.failed == []


async def test_a_host_that_never_answers_is_given_up_though_its_link_lives() -> None:
    async with mesh(hosts=2, first_byte_deadline_s=0.2) as made:
        made.hosts[0].links._handlers["request"] = lambda link, stream: asyncio.sleep(60)
        began = time.monotonic()
        status, headers, _ = await made.api.post(CHAT, BODY)
        assert (status, headers[b"x-mesh-node"]) == (200, made.hosts[1].id.encode())
        assert time.monotonic() - began < 2.5


async def test_a_stream_that_falls_silent_ends_with_an_error() -> None:
    async def silent(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(event(0))
        await call.client_gone()

    async with mesh(host_config={"upstream_idle_deadline_s": 0.2}) as made:
        made.hosts[0].engine.script = silent
        _, _, body = await made.api.post(CHAT, BODY)
        assert body.startswith(event(0) + b"event: error\n")
        assert json.loads(body.split(b"data: ")[-1])["error"]["code"] == "upstream_timeout"


async def test_dropping_the_model_ends_streams_with_its_reason_and_unanswered_ones_move_on() -> (
    None
):
    async with mesh(hosts=2) as made:
        host, other = made.hosts
        host.engine.script = endless
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(1))
        host.engine.script = hang
        asking = asyncio.create_task(made.api.post(CHAT, BODY))
        await eventually(lambda: host.app.in_flight("demo") == 2)
        assert host.app.interrupt("'demo' is being stopped on this node; ask again.", "demo") == 2
        await client.until(b"event: error\ndata: ", 2)
        error = json.loads(await client.until(b"\n\n"))["error"]
        assert error["code"] == "node_stopping"
        assert error["message"] == "'demo' is being stopped on this node; ask again."
        status, headers, _ = await asking
        assert (status, headers[b"x-mesh-node"]) == (200, other.id.encode())
        await eventually(lambda: not host.app.in_flight() and not host.engine.busy)
        assert {r.outcome for r in host.app.records} == {Outcome.STOPPED}


async def test_draining_here_does_not_touch_what_runs_on_another_node() -> None:
    async with mesh() as made:
        made.hosts[0].engine.script = endless
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(1))
        assert made.api.app.interrupt("dropped here", "demo") == 0
        await client.until(event(1))
        assert made.api.app.interrupt("the node stops") == 1
        await client.until(b"event: error\ndata: ", 2)


async def test_a_client_that_does_not_read_stops_the_engine_and_memory_stays_flat() -> None:
    written = 0

    async def flood(call: Call) -> None:
        nonlocal written
        piece = event(1) * 200
        await call.begin_stream()
        while True:
            await call.chunk(piece)
            written += len(piece)

    async with mesh() as made:
        made.hosts[0].engine.script = flood
        client = await made.api.connect()
        await client.send(post(CHAT, BODY))
        await client.until(event(1))
        stuck = -1
        async with asyncio.timeout(20):
            while written != stuck:  # until the engine itself is held back
                stuck = written
                await asyncio.sleep(0.5)
        # Kernel buffers of two TCP connections, 64 KiB at each reader, 256 KiB each in the two nodes.
        assert stuck < 12 << 20
        stream = next(iter(made.entry.connection_to(made.hosts[0].node).streams.values()))
        assert stream.unread_bytes <= 256 << 10
        await client.reader.readexactly(4 << 20)
        await eventually(lambda: written > stuck)
        client.reset()
        await eventually(lambda: not made.hosts[0].engine.busy)
