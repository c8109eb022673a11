"""Dropping a model and stopping the node."""

from nodes.mesh.effects import ChangeRoutes, LeaveAndExit, StartServer, StopServer
from nodes.mesh.events import (
    AnswersFinished,
    DropRequested,
    ModelResolving,
    ModelWanted,
    StopRequested,
    TimePassed,
)
from nodes.mesh.ids import ModelName
from nodes.mesh.reconcile import STOP_GRACE_S
from nodes.mesh.routing import RequestNeeds, candidates
from tests.nodes.mesh.facts import exited, model, ready, serving_node


def test_stop_gives_streams_their_grace_then_leaves_with_zero() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    effects = node.handle(StopRequested("Stopping (SIGTERM)."), 2.0)
    assert [e.grace_s for e in effects if isinstance(e, StopServer)] == [STOP_GRACE_S]
    assert not any(isinstance(e, LeaveAndExit) for e in effects)
    node.handle(AnswersFinished(), 2.9)
    effects = node.handle(exited(1, asked=True), 3.0)
    assert [e.exit_code for e in effects if isinstance(e, LeaveAndExit)] == [0]


def test_stop_without_an_engine_leaves_once_no_answer_of_another_nodes_engine_is_open() -> None:
    node = serving_node()
    effects = node.handle(StopRequested("Stopping."), 1.0)
    assert not any(isinstance(e, LeaveAndExit) for e in effects)
    effects = node.handle(AnswersFinished(), 2.0)
    assert sum(isinstance(e, LeaveAndExit) for e in effects) == 1


def test_stop_while_loading_waits_for_no_streams() -> None:
    effects = serving_node("tiny").handle(StopRequested("Stopping."), 1.0)
    assert [e.grace_s for e in effects if isinstance(e, StopServer)] == [0.0]


def test_nothing_starts_after_a_stop() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 1.0)
    node.handle(StopRequested("Stopping."), 1.5)
    for second in (2.0, 5.0, 60.0):
        effects = node.handle(TimePassed(), second) + node.handle(ModelWanted(model("b")), second)
        assert not any(isinstance(e, StartServer) for e in effects)
    assert node.deadline is None


def test_engine_that_crashes_during_the_stop_still_ends_it() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(StopRequested("Stopping."), 2.0)
    node.handle(exited(1, asked=False), 2.1)
    effects = node.handle(AnswersFinished(), 2.2)
    assert sum(isinstance(e, LeaveAndExit) for e in effects) == 1


def test_dropped_model_is_unroutable_at_once_and_the_empty_node_leaves() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    effects = node.handle(DropRequested(ModelName("tiny"), leave_after=True), 2.0)
    (routes,) = [e.table for e in effects if isinstance(e, ChangeRoutes)]
    assert routes.served_names() == ()
    assert node._shown["model/tiny"]["status"] == "cold"
    effects = node.handle(exited(1, asked=True), 3.0)
    assert sum(isinstance(e, LeaveAndExit) for e in effects) == 1
    assert "model/tiny" not in node._shown


def test_model_asked_for_again_while_it_drains_is_started_again() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(DropRequested(ModelName("tiny"), leave_after=True), 2.0)
    node.handle(ModelWanted(model("tiny")), 2.5)
    effects = node.handle(exited(1, asked=True), 3.0)
    assert sum(isinstance(e, StartServer) for e in effects) == 1
    assert not any(isinstance(e, LeaveAndExit) for e in effects)


def test_drop_of_an_unknown_model_changes_nothing() -> None:
    node = serving_node("tiny")
    assert node.handle(DropRequested(ModelName("other"), leave_after=True), 1.0) == []


def test_ready_engine_is_the_candidate_for_its_model() -> None:
    node = serving_node("tiny")
    node.handle(ready(1, port=41234), 1.0)
    found = candidates(node.routes, RequestNeeds("TINY"))
    assert [u.port for u in found.upstreams] == [41234]  # type: ignore[union-attr]


def test_node_that_still_fetches_another_model_does_not_leave_with_its_dropped_one() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(ModelResolving(ModelName("other"), "downloading", 1, 10), 1.5)
    node.handle(DropRequested(ModelName("tiny"), leave_after=True), 2.0)
    effects = node.handle(exited(1, asked=True), 3.0)
    assert not any(isinstance(e, LeaveAndExit) for e in effects)
    effects = node.handle(ModelWanted(model("other")), 4.0)
    assert sum(isinstance(e, StartServer) for e in effects) == 1
