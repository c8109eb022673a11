"""A model that could not be served is shown with its reason until somebody takes it off the list."""

from nodes.mesh.effects import LeaveAndExit, StopServer
from nodes.mesh.events import DropRequested, ModelRefused
from nodes.mesh.ids import ModelName
from tests.nodes.mesh.facts import ready, serving_node


def test_dropping_a_refused_model_takes_it_off_the_list_and_nothing_else() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(ModelRefused(ModelName("nope"), "there is no such model."), 2.0)
    assert node._shown["model/nope"]["state"] == "failed"
    effects = node.handle(DropRequested(ModelName("nope"), leave_after=False), 3.0)
    assert "model/nope" not in node._shown
    assert node._shown["model/tiny"]["state"] == "ready"
    assert not any(isinstance(effect, StopServer | LeaveAndExit) for effect in effects)
