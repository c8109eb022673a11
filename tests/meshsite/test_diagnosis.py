"""`mesh-llm doctor` on a running node: which hop fails is named, with what to do about it."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from meshsite.diagnosis import diagnose
from nodes.mesh.announcement import Announcement
from nodes.mesh.gossip_effects import MemberState, MemberView
from nodes.runtime import doctor
from nodes.runtime.link import Link
from nodes.runtime.streams import Stream
from tests.nodes.link_lab import Lab, LabNode, Recorder, lab

STATE: dict[str, Any] = {
    "node": {"api_port": 9337},
    "engine": {"state": "found", "version": "b1", "source": "/opt"},
}


class Answering(Recorder):
    """A peer that serves the doctor, as a whole node does."""

    async def stream(self, link: Link, stream: Stream) -> None:
        assert stream.kind == doctor.DOCTOR_KIND
        await doctor.answer(link, stream)


class Ahead(Recorder):
    """A peer whose clock is ten minutes fast."""

    async def stream(self, link: Link, stream: Stream) -> None:
        asked = msgspec.msgpack.decode(await stream.read_all(4096))
        found = dict.fromkeys(asked["addresses"], "answered")
        await stream.write(msgspec.msgpack.encode({"unix_s": time.time() + 600.0, "found": found}))
        stream.end()


@pytest.fixture
def closed_port() -> Iterator[str]:
    """Return an address whose machine refuses: nobody listens on its UDP port."""
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    yield f"127.0.0.1:{port}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """Return an address that swallows what comes, as a firewall does."""
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{made.getsockname()[1]}"


def member(node: LabNode, *addresses: str) -> MemberView:
    said = Announcement(name="box-b", addresses=addresses or (str(node.address),))
    return MemberView(node.id, MemberState.ALIVE, False, 1, 0, said, None)


async def linked(made: Lab) -> tuple[LabNode, LabNode]:
    """Return this node and a peer that it has a link to."""
    here, there = await made.node(), await made.node(events=Answering())
    await here.transport.dial([there.address], there.id)
    return here, there


async def checks(here: LabNode, own: str, *members: MemberView, peer: str = "") -> dict[str, Any]:
    """Return (state, text) of each check by its name."""
    found = await diagnose(STATE, here.transport, (own,), members, peer)
    return {check["what"]: (check["state"], check["text"]) for check in found}


async def test_where_all_is_well_every_hop_is_said_to_be() -> None:
    async with lab() as made:
        here, there = await linked(made)
        found = await checks(here, str(here.address), member(there))
    assert {state for state, _ in found.values()} == {"ok"}
    hops = {f"box-b: {hop}" for hop in ("way there", "link", "way back", "clock")}
    assert found.keys() == hops | {"engine", "api", "addresses"}


async def test_a_way_back_that_a_firewall_closes_is_the_hop_that_fails(silent_port: str) -> None:
    async with lab() as made:
        here, there = await linked(made)
        found = await checks(here, silent_port, member(there))
    assert [what for what, (state, _) in found.items() if state == "failed"] == ["box-b: way back"]
    text = found["box-b: way back"][1]
    assert f"Seen from box-b: {silent_port} silent" in text
    assert "firewall" in text and "--bind-port" in text


async def test_a_way_there_whose_port_is_closed_is_told_from_a_firewall(closed_port: str) -> None:
    async with lab() as made:
        here, there = await linked(made)
        found = await checks(here, str(here.address), member(there, closed_port))
    assert [what for what, (state, _) in found.items() if state == "failed"] == ["box-b: way there"]
    assert "nothing listens on that UDP port" in found["box-b: way there"][1]


async def test_a_peer_without_a_link_is_asked_nothing_and_said_so() -> None:
    async with lab() as made:
        here, there = await made.node(), await made.node()
        found = await checks(here, str(here.address), member(there))
    assert found["box-b: way there"][0] == "ok"
    assert found["box-b: link"][0] == "failed"


async def test_clocks_far_apart_are_a_warning_with_the_remedy() -> None:
    async with lab() as made:
        here, there = await made.node(), await made.node(events=Ahead())
        await here.transport.dial([there.address], there.id)
        found = await checks(here, str(here.address), member(there))
    state, text = found["box-b: clock"]
    assert state == "warning"
    assert text.startswith(("599 s apart", "600 s apart")) and "NTP" in text


async def test_an_unknown_name_is_said_and_a_missing_engine_fails_with_its_reason() -> None:
    async with lab() as made:
        here, there = await linked(made)
        found = await checks(here, str(here.address), member(there), peer="box-z")
        assert found["box-z"][0] == "failed"
        none = {**STATE, "engine": {"state": "missing", "reason": "No llama-server in /x."}}
        told = await diagnose(none, here.transport, (str(here.address),), [member(there)], "box-b")
    assert told[0] == {
        "what": "engine", "state": "failed", "text": "No engine. No llama-server in /x.",
    }  # fmt: skip
