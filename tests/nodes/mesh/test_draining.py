"""A drained node serves nothing and takes nothing up until it is undrained; it stays a member."""

import msgspec
import pytest

from nodes.mesh import limits
from nodes.mesh.drains import DRAINS_MAX, Drains, accept_drain, drain_notice, subject_of
from nodes.mesh.effects import ChangeRoutes, LeaveAndExit, StartServer, StopServer
from nodes.mesh.events import (
    DrainRequested,
    ModelWanted,
    ResourcesSampled,
    RestartRequested,
    TimePassed,
)
from nodes.mesh.ids import ModelName, NodeId
from nodes.mesh.node import MeshNode
from nodes.mesh.reconcile import STOP_GRACE_S
from tests.nodes.mesh.facts import ME, exited, machine, model, ready, serving_node
from tests.nodes.mesh.test_tombstones import identity

DRAIN = DrainRequested(ME.node_id, drained=True)
UNDRAIN = DrainRequested(ME.node_id, drained=False)
OTHER = NodeId("cd" * 32)


def drained_node() -> MeshNode:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(DRAIN, 2.0)
    return node


def test_a_drained_node_takes_no_new_request_and_gives_open_answers_their_grace() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    effects = node.handle(DRAIN, 2.0)
    (routes,) = [e.table for e in effects if isinstance(e, ChangeRoutes)]
    assert routes.served_names() == ()
    assert [e.grace_s for e in effects if isinstance(e, StopServer)] == [STOP_GRACE_S]
    assert node.shown["node"]["state"] == "draining"
    node.handle(exited(1, asked=True), 3.0)
    assert node.shown["node"] | {"state": "drained", "role": "drained"} == node.shown["node"]
    entry = node.shown["model/tiny"]
    assert (entry["status"], entry["state"]) == ("cold", "drained")
    assert "undrained" in entry["reason"]


def test_a_drained_node_offers_nothing_and_says_so() -> None:
    node = drained_node()
    said = node.announcement()
    assert [line.state for line in said.serving] == ["draining"]
    node.handle(exited(1, asked=True), 3.0)
    said = node.announcement()
    assert (said.role, said.memory_bytes, said.engine) == ("drained", 0, "")
    assert [line.state for line in said.serving] == ["waiting"], "others may take its model over"


def test_nothing_starts_and_nothing_is_due_while_drained() -> None:
    node = drained_node()
    node.handle(exited(1, asked=True), 3.0)
    for event in (
        TimePassed(),
        ModelWanted(model("other")),
        ResourcesSampled(machine(10**10)),
        RestartRequested(ModelName("tiny")),
    ):
        effects = node.handle(event, 50.0)
        assert not any(isinstance(e, StartServer | LeaveAndExit) for e in effects)
    assert node.deadline is None


def test_a_drained_node_whose_engine_had_crashed_does_not_wake_for_its_retry() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 1.0)
    assert node.deadline is not None
    node.handle(DRAIN, 1.1)
    assert node.deadline is None


def test_undrained_it_serves_again_what_its_own_operator_asked_for() -> None:
    node = drained_node()
    node.handle(exited(1, asked=True), 3.0)
    effects = node.handle(UNDRAIN, 4.0)
    assert [e.plan.model.name for e in effects if isinstance(e, StartServer)] == ["tiny"]
    assert node.announcement().role == "host"
    assert node.handle(UNDRAIN, 5.0) == [], "said again it changes nothing"


def test_undrained_while_answers_still_run_out_it_starts_after_them() -> None:
    node = drained_node()
    effects = node.handle(UNDRAIN, 2.5)
    assert not any(isinstance(e, StartServer) for e in effects)
    effects = node.handle(exited(1, asked=True), 3.0)
    assert sum(isinstance(e, StartServer) for e in effects) == 1


# --- the word that travels ---------------------------------------------------------------------


def test_a_members_word_is_accepted_and_fits_a_notice() -> None:
    notice = drain_notice(identity(), OTHER, 1_790_000_000_000, True, 1_789_999_000_000, 1)
    assert accept_drain(identity("box-2"), notice.topic, notice.version, notice.body)
    assert len(notice.body) <= limits.NOTICE_BYTES_MAX
    assert len(notice.topic) <= limits.TOPIC_CHARS_MAX
    assert subject_of(notice.topic) == OTHER
    assert subject_of("drop/x") is None


def test_a_stranger_and_a_forged_version_subject_life_or_verb_are_refused() -> None:
    judge = identity("box-2")
    stranger = drain_notice(identity("evil", b"nobody"), OTHER, 5, True, 7, 0)
    assert not accept_drain(judge, stranger.topic, 5, stranger.body)
    good = drain_notice(identity(), OTHER, 5, True, 7, 0)
    assert not accept_drain(judge, good.topic, 6, good.body)
    assert not accept_drain(judge, f"drain/{ME.node_id}", 5, good.body)
    key, credential, drained, life, signature = msgspec.msgpack.decode(good.body)
    for forged in (
        [key, credential, not drained, life, signature],
        [key, credential, drained, life + 1, signature],
    ):
        assert not accept_drain(judge, good.topic, 5, msgspec.msgpack.encode(forged))


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x95\x01\x02\x03\x04\x05", b"x" * 512, b"\x90"])
def test_broken_bodies_are_refused(body: bytes) -> None:
    assert not accept_drain(identity(), f"drain/{OTHER}", 1, body)
    assert Drains().take(f"drain/{OTHER}", 1, body) is None


def test_the_newest_word_about_a_node_wins_and_the_register_is_bounded() -> None:
    held = Drains()
    for version, drained in ((2, True), (1, False)):
        notice = drain_notice(identity(), OTHER, version, drained, 7, 0)
        held.take(notice.topic, notice.version, notice.body)
    assert held.next_version(OTHER, 1) == 3
    for number in range(DRAINS_MAX + 1):
        notice = drain_notice(identity(), NodeId(f"{number:064x}"), 1, True, 7, 0)
        held.take(notice.topic, notice.version, notice.body)
    assert held.next_version(OTHER, 1) == 1
