"""What reaches the rpc-server is what llama-server sent, whatever stays home on the way."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from models_registry.rpc import words
from tests.models_registry.rpc.duo import Duo, FakeRpcServer, duo
from tests.models_registry.rpc.model_file import tensors, write_model
from tests.models_registry.rpc.wire import (
    description,
    hash_offer,
    hello,
    hello_answer,
    request,
    set_tensor,
)
from tests.nodes.link_lab import until

MIB = 1 << 20


async def seen_by_server(pair: Duo, size: int) -> bytes:
    await until(lambda: sum(map(len, pair.server.clients)) >= size, 10)
    return b"".join(map(bytes, pair.server.clients))


async def test_weights_that_both_have_do_not_cross_and_arrive_whole(tmp_path: Path) -> None:
    made = tensors(4096, 3 * MIB, 2 * MIB + 4, 50_000)
    ours, theirs = (
        write_model(tmp_path / "a/m.gguf", made),
        write_model(tmp_path / "b/x.gguf", made),
    )
    async with duo([ours], [theirs]) as pair:
        client = await pair.client()
        assert await client.ask(hello()) == hello_answer()[8:]
        stream = hello()
        for tensor in made:
            # As for large ones: the hash is offered first, and the data set with the cache flag.
            assert await client.ask(hash_offer(tensor.described)) == b"\0"
            await client.ask(tensor.message(flag=1))
            stream += tensor.message(flag=0)
        after = request(11, b"\0\0\0\0")
        assert await client.ask(after) == b"re:\0\0\0\0"
        stream += after
        assert await seen_by_server(pair, len(stream)) == stream
        await client.finish()
        total = sum(len(tensor.data) for tensor in made)
        assert pair.counters.weights_saved_bytes == total
        assert pair.counters.weights_sent_bytes == 0
        assert pair.counters.references == len(made)
        assert pair.worker_counters.weights_saved_bytes == total
        lane = sum(channel.wire.sent_bytes for channel in pair.host.channels)
        assert lane < 5000


async def test_what_differs_from_the_file_crosses_as_it_is(tmp_path: Path) -> None:
    made = tensors(3 * MIB, 3 * MIB, 3 * MIB)
    model = write_model(tmp_path / "m.gguf", made)
    async with duo([model], [model]) as pair:
        client = await pair.client()
        await client.ask(hello())
        stream = hello()
        for tensor, at in zip(made, (0, MIB + 7, 3 * MIB - 1), strict=True):
            changed = bytearray(tensor.data)
            changed[at] ^= 1
            message = set_tensor(tensor.described, bytes(changed), flag=1)
            await client.ask(message)
            stream += message
        await client.ask(request(11, b""))
        stream += request(11, b"")
        assert await seen_by_server(pair, len(stream)) == stream
        assert pair.counters.references == 0
        assert pair.counters.weights_sent_bytes == 9 * MIB


@pytest.mark.parametrize("what", ["offset", "type", "shape", "name", "size", "tiny"])
async def test_what_is_not_a_whole_tensor_of_the_file_crosses_as_it_is(
    tmp_path: Path, what: str
) -> None:
    (tensor,) = made = tensors(8192 if what != "tiny" else 1024)
    model = write_model(tmp_path / "m.gguf", made)
    described, data, offset = tensor.described, tensor.data, 0
    if what == "offset":
        data, offset = data[64:], 64
    elif what == "type":
        described = description(tensor.name, 1, tensor.shape)
    elif what == "shape":
        described = description(tensor.name, 0, (tensor.shape[0] // 2, 2))
    elif what == "name":
        described = description(tensor.name + "x", 0, tensor.shape)
    elif what == "size":
        data += b"more"
    message = set_tensor(described, data, offset=offset, flag=1)
    async with duo([model], [model]) as pair:
        client = await pair.client()
        await client.ask(hello())
        await client.ask(message)
        assert await seen_by_server(pair, len(hello() + message)) == hello() + message
        assert pair.counters.references == 0


async def test_a_worker_with_other_bytes_gets_the_hosts_in_the_right_place(tmp_path: Path) -> None:
    made = tensors(*[MIB + 4 * n for n in range(12)])
    ours = write_model(tmp_path / "a/m.gguf", made)
    wrong = [t if n % 3 else type(t)(t.name, t.shape, t.data[::-1]) for n, t in enumerate(made)]
    theirs = write_model(tmp_path / "b/m.gguf", wrong)
    async with duo([ours], [theirs]) as pair:
        client = await pair.client()
        await client.ask(hello())
        stream = hello()
        for number, tensor in enumerate(made):
            await client.ask(tensor.message())
            between = request(12, bytes([number]) * 5000)  # ordinary requests between the weights
            await client.ask(between)
            stream += tensor.message() + between
        assert await seen_by_server(pair, len(stream)) == stream
        await client.finish()
        assert pair.counters.references == 12
        assert pair.counters.references_wanted == 4
        wanted = sum(len(t.data) for t in made[::3])
        assert pair.counters.weights_sent_bytes == wanted
        assert pair.worker_counters.references_wanted == 4


async def test_a_worker_without_the_file_gets_everything_and_hash_offers_reach_its_server(
    tmp_path: Path,
) -> None:
    made = tensors(MIB)
    model = write_model(tmp_path / "m.gguf", made)
    async with duo([model], [], FakeRpcServer(hash_known=True)) as pair:
        client = await pair.client()
        await client.ask(hello())
        offer = hash_offer(made[0].described)
        assert await client.ask(offer) == b"\1"
        await client.ask(made[0].message(flag=1))
        stream = hello() + offer + made[0].message(flag=1)
        assert await seen_by_server(pair, len(stream)) == stream
        assert pair.counters.weights_sent_bytes == MIB


async def test_a_drafts_tensors_of_the_same_names_are_fed_from_the_drafts_file(
    tmp_path: Path,
) -> None:
    model, draft = tensors(MIB, MIB), tensors(MIB, 4096, seed="draft")
    files = [write_model(tmp_path / "m.gguf", model), write_model(tmp_path / "d.gguf", draft)]
    async with duo(files, files[::-1]) as pair:
        client = await pair.client()
        await client.ask(hello())
        stream = hello()
        for tensor in (draft[0], model[0], model[1], draft[1]):
            await client.ask(tensor.message())
            stream += tensor.message()
        assert await seen_by_server(pair, len(stream)) == stream
        assert pair.counters.references == 4
        assert pair.counters.references_wanted == 0


async def test_capabilities_are_zeroed_both_ways(tmp_path: Path) -> None:
    async with duo([], [], FakeRpcServer(capabilities=b"\xaa" * 24)) as pair:
        client = await pair.client()
        assert await client.ask(hello(b"\xff" * 24)) == hello_answer()[8:]
        assert bytes(pair.server.clients[0]) == hello()


async def test_an_unknown_version_switches_the_recognising_off_and_says_so(tmp_path: Path) -> None:
    made = tensors(MIB)
    model = write_model(tmp_path / "m.gguf", made)
    async with duo([model], [model], FakeRpcServer(major=9)) as pair:
        client = await pair.client()
        await client.ask(hello())
        await client.ask(made[0].message(flag=1))
        stream = hello() + made[0].message(flag=1)
        assert await seen_by_server(pair, len(stream)) == stream
        assert pair.counters.recognition == "protocol version 9.0.0"
        assert pair.counters.references == 0


async def test_a_changed_file_of_the_worker_is_not_fed(tmp_path: Path) -> None:
    """Its digests were known; then other bytes were put in its place, under the open file's feet."""
    made = tensors(MIB, MIB)
    ours, theirs = (
        write_model(tmp_path / "a/m.gguf", made),
        write_model(tmp_path / "b/m.gguf", made),
    )
    async with duo([ours], [theirs]) as pair:
        client = await pair.client()
        await client.ask(hello())
        await client.ask(made[0].message())
        await seen_by_server(pair, len(hello()) + len(made[0].message()))
        with theirs.open("r+b") as file:
            file.seek(-4096, os.SEEK_END)
            file.write(b"something else")
        await client.ask(made[1].message())
        # Nothing of the changed file goes to the rpc-server: the tunnel ends instead.
        assert await client.is_cut()
        assert b"something else" not in pair.server.clients[0]


async def test_the_host_does_not_run_ahead_of_a_worker_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "REFERENCES_AHEAD_MAX", 3)
    made = tensors(*[8192] * 40)
    model = write_model(tmp_path / "m.gguf", made)
    async with duo([model], [model]) as pair:
        pair.server.gate.clear()  # it reads nothing: feeding stops once the socket is full
        client = await pair.client()
        client.writer.write(hello())
        pair.server.gate.set()
        await client.reader.readexactly(36)
        stream = hello()
        for tensor in made:
            await client.ask(tensor.message())
            stream += tensor.message()
        assert await seen_by_server(pair, len(stream)) == stream


async def test_random_loads_arrive_byte_for_byte(tmp_path: Path) -> None:
    rng = random.Random(11)
    made = tensors(*[4 * rng.randrange(1, MIB // 2) for _ in range(20)])
    wrong = [
        t if rng.random() < 0.7 else type(t)(t.name, t.shape, t.data[::-1] + b"") for t in made
    ]
    ours, theirs = (
        write_model(tmp_path / "a/m.gguf", made),
        write_model(tmp_path / "b/m.gguf", wrong),
    )
    async with duo([ours], [theirs]) as pair:
        client = await pair.client()
        await client.ask(hello())
        stream = hello()
        for _ in range(80):
            tensor = rng.choice(made)
            kind = rng.random()
            if kind < 0.5:
                message = expected = tensor.message()
            elif kind < 0.6:
                data = bytearray(tensor.data)
                data[rng.randrange(len(data))] ^= 1
                message = expected = set_tensor(tensor.described, bytes(data))
            elif kind < 0.7:
                offset = 4 * rng.randrange(len(tensor.data) // 4)
                message = expected = set_tensor(
                    tensor.described, tensor.data[offset:], offset=offset, flag=1
                )
                if offset == 0 and len(tensor.data) >= words.REFERENCE_MIN_BYTES:
                    expected = tensor.message()
            else:
                command = rng.choice([1, 5, 8, 10, 11, 12, 17])
                message = expected = request(command, rng.randbytes(rng.randrange(200_000)))
            got = await client.ask(message)
            if got:
                assert got == b"re:" + message[9:49]
            stream += expected
        await client.ask(request(11, b"x"))
        stream += request(11, b"x")
        assert await seen_by_server(pair, len(stream)) == stream
        await client.finish()
        assert pair.counters.references > 10
        assert pair.counters.references_wanted > 2


async def test_connections_follow_one_another_one_upstream_at_a_time(tmp_path: Path) -> None:
    made = tensors(8192)
    model = write_model(tmp_path / "m.gguf", made)
    async with duo([model], [model]) as pair:
        first = await pair.client()
        await first.ask(hello())
        # The second is there before the first has gone: it waits, and nothing is lost.
        second = await pair.client()
        waiting = asyncio.create_task(second.ask(hello()))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await first.ask(made[0].message())
        await first.finish()
        assert await waiting == hello_answer()[8:]
        await second.finish()
        for _ in range(15):
            client = await pair.client()
            await client.ask(hello())
            await client.finish()
        assert pair.server.most_open == 1
        assert len(pair.server.clients) == 17
        assert pair.counters.connections == 17
        assert len(pair.host.channels) <= 2


async def test_the_rpc_servers_death_reaches_llama_server_at_once(tmp_path: Path) -> None:
    async with duo([], []) as pair:
        client = await pair.client()
        await client.ask(hello())
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        pair.server.cut()
        assert await client.is_cut()
        assert loop.time() - began_s < 1.0
