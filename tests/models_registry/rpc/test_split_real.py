"""A model split by real engines through two real lane processes: the same words, the weights at home."""

from pathlib import Path

import pytest

from nodes.runtime.lane.channel import Via
from tests.models_registry.rpc.engines import llama_server, rpc_server, split_arguments
from tests.models_registry.rpc.rig import RigNode, rig, settled

pytestmark = pytest.mark.engine
PROMPTS = ["the node", "what is a mesh", "a b c", "open the door and read the book"]


async def solo_words(model: Path, folder: Path, *arguments: str) -> list[str]:
    with llama_server(model, folder / "solo.log", *arguments) as solo:
        await solo.ready()
        return [await solo.answer(prompt) for prompt in PROMPTS]


async def split_words(
    host: RigNode, port: int, own: int, model: Path, folder: Path, *arguments: str
) -> list[str]:
    """Return the answers of a llama-server that reaches the worker by this tunnel port."""
    argv = [*split_arguments([own, port], "0.5,0.5"), *arguments]
    with llama_server(model, folder / "split.log", *argv) as split:
        host.lane.name_client(port, split.pid)
        await split.ready()
        return [await split.answer(prompt) for prompt in PROMPTS]


async def test_a_split_whose_worker_has_the_file_answers_as_solo_and_sends_no_weights(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        with rpc_server(tmp_path / "own.log") as own, rpc_server(tmp_path / "theirs.log") as theirs:
            assert await worker.lane.grant(theirs, host.id, 7, [str(tiny_model)]) == []
            port = await host.lane.open_port(worker.id, theirs, 7, [str(tiny_model)])
            words = await split_words(host, port, own, tiny_model, tmp_path)
            assert words == await solo_words(tiny_model, tmp_path)
            report = await settled(host)
            (there,) = report.ports
            assert there.load.recognition == ""
            assert there.load.rpc_version.startswith("8.")
            assert there.load.references > 10
            assert there.load.references_wanted == 0
            assert there.load.weights_saved_bytes > 500_000
            assert there.load.weights_sent_bytes < 0.02 * there.load.weights_saved_bytes
            (peer,) = report.peers
            assert peer.via in (Via.LANE, None)
            (served,) = (await settled(worker)).servers
            assert served.load.weights_saved_bytes == there.load.weights_saved_bytes


async def test_a_worker_without_the_file_gets_the_weights_and_the_split_answers_as_solo(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        with rpc_server(tmp_path / "own.log") as own, rpc_server(tmp_path / "theirs.log") as theirs:
            await worker.lane.grant(theirs, host.id, 1, [])
            port = await host.lane.open_port(worker.id, theirs, 1, [str(tiny_model)])
            words = await split_words(host, port, own, tiny_model, tmp_path)
            assert words == await solo_words(tiny_model, tmp_path)
            (there,) = (await settled(host)).ports
            assert there.load.references == there.load.weights_saved_bytes == 0
            assert there.load.weights_sent_bytes > 500_000


async def test_a_worker_with_other_bytes_under_the_same_header_asks_for_the_right_ones(
    tmp_path: Path, tiny_model: Path
) -> None:
    """A fine-tune, or a damaged file: every name, type, shape and size is the same."""
    other = tmp_path / "worker" / tiny_model.name
    other.parent.mkdir()
    content = bytearray(tiny_model.read_bytes())
    for at in range(len(content) // 2, len(content), 40_000):
        content[at] ^= 0xFF
    other.write_bytes(content)
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        with rpc_server(tmp_path / "own.log") as own, rpc_server(tmp_path / "theirs.log") as theirs:
            assert await worker.lane.grant(theirs, host.id, 1, [str(other)]) == []
            port = await host.lane.open_port(worker.id, theirs, 1, [str(tiny_model)])
            words = await split_words(host, port, own, tiny_model, tmp_path)
            assert words == await solo_words(tiny_model, tmp_path)
            (there,) = (await settled(host)).ports
            assert there.load.references > there.load.references_wanted > 3


async def test_a_draft_with_the_same_tensor_names_is_told_apart(
    tmp_path: Path, tiny_model: Path, draft_model: Path
) -> None:
    draft = ["-md", str(draft_model), "--spec-type", "draft-simple", "--spec-draft-n-max", "4"]
    files = [str(tiny_model), str(draft_model)]
    async with rig(tmp_path) as made:
        host, worker = await made.pair()
        with rpc_server(tmp_path / "own.log") as own, rpc_server(tmp_path / "theirs.log") as theirs:
            await worker.lane.grant(theirs, host.id, 1, files)
            port = await host.lane.open_port(worker.id, theirs, 1, files)
            words = await split_words(
                host, port, own, tiny_model, tmp_path, *draft, "--spec-draft-ngl", "99"
            )
            assert words == await solo_words(tiny_model, tmp_path)
            (there,) = (await settled(host)).ports
            assert there.load.references_wanted == 0
            assert there.load.weights_sent_bytes < 0.05 * there.load.weights_saved_bytes


async def test_over_the_quic_fallback_the_split_answers_as_solo(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with rig(tmp_path) as made:
        host, worker = await made.node(), await made.node(quic_only=True)
        with rpc_server(tmp_path / "own.log") as own, rpc_server(tmp_path / "theirs.log") as theirs:
            await worker.lane.grant(theirs, host.id, 1, [str(tiny_model)])
            port = await host.lane.open_port(worker.id, theirs, 1, [str(tiny_model)])
            words = await split_words(host, port, own, tiny_model, tmp_path)
            assert words == await solo_words(tiny_model, tmp_path)
            report = await settled(host)
            (peer,) = report.peers
            assert peer.quic.sent_bytes > 0
            assert peer.lane.sent_bytes == 0
            assert report.ports[0].load.weights_saved_bytes > 500_000
