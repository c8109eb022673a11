"""What may come through a tunnel: heads of any version, nothing that the API would not pass on, any bytes."""

import asyncio
import json
import os
import random

import msgspec
import pytest

from nodes.runtime.streams import Stream, StreamAbortedError
from proxy import tunnel
from proxy.tunnel import AnswerHead, RequestHead, TunnelError
from tests.nodes.link_lab import until
from tests.proxy.peer_lab import BODY, CHAT, Mesh, mesh


def request(**changes: object) -> RequestHead:
    usual = {
        "model": "demo",
        "method": b"POST",
        "target": b"/v1/chat/completions",
        "headers": ((b"content-type", b"application/json"),),
        "body_bytes": len(BODY),
        "left_s": 5.0,
    }
    return RequestHead(**{**usual, **changes})  # type: ignore[arg-type]


def test_heads_come_back_and_ignore_what_they_do_not_know() -> None:
    head = request()
    content = tunnel.encode(head)
    assert tunnel.length_of(content[:4]) == len(content) - 4
    assert tunnel.decode_request(content[4:]) == head
    newer = msgspec.msgpack.decode(content[4:]) | {"version": 9, "priority": [1, {"x": None}]}
    assert tunnel.decode_request(msgspec.msgpack.encode(newer)).model == "demo"


@pytest.mark.parametrize(
    "target",
    [
        b"/slots", b"/props", b"/completion", b"/metrics", b"/v1/models", b"/", b"//v1/completions",
        b"/v1/../slots", b"/v1/chat/completions/../../../slots", b"v1/completions", b"",
        b"/v1/completions HTTP/1.1\r\nX: 1\r\n\r\nGET /slots", b"/v1/completions\x00",
        b"http://127.0.0.1/v1/completions", b"/v1/chat%2fcompletions/x", b"/v1/completions#x y",
    ],
)  # fmt: skip
def test_no_other_path_of_the_engine_can_be_reached(target: bytes) -> None:
    with pytest.raises(TunnelError):
        tunnel.check_request(request(target=target))


@pytest.mark.parametrize(
    "headers",
    [
        ((b"content-length", b"3"),), ((b"Transfer-Encoding", b"chunked"),), ((b"Host", b"x"),),
        ((b"x", b"1\r\nContent-Length: 5"),), ((b"x", b"1\nY: 2"),), ((b"x\r\ny", b"1"),),
        ((b"x y", b"1"),), ((b"", b"1"),), ((b"x:", b"1"),), ((b"x", b"\x00"),),
        ((b"connection", b"close"),), ((b"expect", b"100-continue"),), ((b"accept-encoding", b"br"),),
    ],
)  # fmt: skip
def test_no_header_can_make_two_requests_of_one(headers: tuple) -> None:
    with pytest.raises(TunnelError):
        tunnel.check_request(request(headers=headers))


def test_what_a_front_passes_on_is_taken() -> None:
    headers = ((b"x-request-id", b"a"), (b"x-y", b"caf\xc3\xa9\t1"), (b"content-encoding", b""))
    route = tunnel.check_request(request(target=b"/v1/completions?a=%20&b", headers=headers))
    assert route.label == "/v1/completions"
    assert tunnel.check_request(request(target=b"/v1/chat%2Fcompletions")).label == CHAT
    with pytest.raises(TunnelError):
        tunnel.check_request(request(method=b"GET"))
    with pytest.raises(TunnelError):
        tunnel.check_request(request(method=b"POST /slots"))


@pytest.mark.parametrize(
    "head",
    [
        AnswerHead(),
        AnswerHead(status=101),
        AnswerHead(status=200, headers=((b"x", b"a\r\nb"),)),
        AnswerHead(status=200, headers=((b"x\n", b"a"),)),
    ],
)
def test_an_answer_that_no_client_may_see_is_malformed(head: AnswerHead) -> None:
    with pytest.raises(TunnelError):
        tunnel.decode_answer(msgspec.msgpack.encode(head))


def test_a_head_has_a_largest_length() -> None:
    headers = tuple((b"x-%d" % n, b"v" * 1000) for n in range(100))
    with pytest.raises(TunnelError):
        tunnel.encode(request(headers=headers))
    for prefix in (b"\0\0\0\0", b"\xff\xff\xff\xff", (tunnel.HEAD_MAX_BYTES + 1).to_bytes(4)):
        with pytest.raises(TunnelError):
            tunnel.length_of(prefix)


def test_unknown_refusals_mean_that_it_failed_there() -> None:
    assert tunnel.refusal_word("on_fire") is tunnel.RefusalWord.FAILED
    assert set(tunnel.TROUBLE_OF) == set(tunnel.RefusalWord)


async def raw(made: Mesh, *content: bytes, end: bool = True) -> Stream:
    """Return a stream of kind `request` to the first host with these bytes on it."""
    link = await made.entry.transport.dial([made.hosts[0].node.address], made.hosts[0].id)
    stream = await link.open_stream(tunnel.REQUEST_KIND)
    for part in content:
        await stream.write(part)
    if end:
        stream.end()
    return stream


async def answer_to(made: Mesh, *content: bytes) -> AnswerHead:
    stream = await raw(made, *content)
    got = await stream.read_all(1 << 20, 5)
    return msgspec.msgpack.decode(got[4:], type=AnswerHead)


async def test_a_request_that_was_passed_on_before_is_refused() -> None:
    async with mesh() as made:
        answer = await answer_to(made, tunnel.encode(request(hops=2)), BODY)
        assert answer.refusal == "loop"
        assert not made.hosts[0].engine.calls


@pytest.mark.parametrize(
    "head",
    [
        request(target=b"/slots"),
        request(body_bytes=3),
        request(body_bytes=len(BODY) + 1),
        request(headers=((b"content-length", b"0"),)),
    ],
)
async def test_malformed_requests_are_refused_and_reach_no_engine(head: RequestHead) -> None:
    async with mesh() as made:
        host = made.hosts[0]
        assert (await answer_to(made, tunnel.encode(head), BODY)).refusal == "malformed"
        assert not host.engine.calls
        assert host.app._bodies.held_bytes == 0
        await until(lambda: host.app.peer_desk.taken() == 0)


async def test_a_body_that_stops_half_way_is_given_up_in_time() -> None:
    async with mesh(host_config={"body_idle_deadline_s": 0.2}) as made:
        stream = await raw(made, tunnel.encode(request()), BODY[:5], end=False)
        with pytest.raises(StreamAbortedError):
            await stream.read(progress_s=3)
        await until(lambda: made.hosts[0].app.peer_desk.taken() == 0)
        assert made.hosts[0].app._bodies.held_bytes == 0


async def test_any_bytes_leave_the_host_as_it_was() -> None:
    chance = random.Random(4)
    good = tunnel.encode(request()) + BODY

    def hostile() -> bytes:
        content = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(content))
            match chance.randrange(4):
                case 0:
                    content[at] = chance.randrange(256)
                case 1:
                    del content[at : at + chance.randint(1, 30)]
                case 2:
                    content[at:at] = os.urandom(chance.randint(1, 30))
                case _:
                    content = content[: max(1, at)]
            if not content:
                content = bytearray(b"\0")
        return bytes(content)

    async with mesh() as made:
        host = made.hosts[0]
        for _ in range(300):
            stream = await raw(made, hostile())
            try:
                await stream.read_all(1 << 20, 5)
            except StreamAbortedError:
                continue
            finally:
                stream.abort(1)
        await until(lambda: host.app.peer_desk.taken() == 0)
        assert host.app._bodies.held_bytes == 0
        assert host.app.in_flight() == 0
        paths = {call.head.split(b"\r\n")[0] for call in host.engine.calls}
        assert all(b" /v1/" in path for path in paths)
        assert (await made.api.post(CHAT, BODY))[0] == 200


async def test_any_bytes_of_a_host_become_an_error_or_another_hosts_answer() -> None:
    chance = random.Random(5)
    good = tunnel.encode(AnswerHead(status=200, headers=((b"content-type", b"text/plain"),)))

    async def lie(link: object, stream: Stream) -> None:
        content = bytearray(good + b"body")
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(good))] = chance.randrange(256)
        await stream.write(bytes(content[: chance.randint(1, len(content))]))
        stream.end()

    async with mesh(hosts=2) as made:
        made.hosts[0].links._handlers["request"] = lie
        for _ in range(100):
            status, headers, body = await made.api.post(CHAT, BODY)
            if headers[b"x-mesh-node"] == made.hosts[1].id.encode():
                assert json.loads(body)["ok"]
            else:
                assert 200 <= status <= 999
        assert made.failed == []
        await asyncio.sleep(0)
