"""When a node starts an engine, and when it does not."""

from nodes.mesh.effects import RecordEvent, StartServer
from nodes.mesh.events import (
    EngineFound,
    EngineUnavailable,
    ModelRefused,
    ModelWanted,
    ResourcesSampled,
    ServerProgressed,
)
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.node import MeshNode
from nodes.mesh.placement import ServingOptions
from tests.nodes.mesh.facts import ENGINE, MACHINE, ME, machine, model, ready, serving_node


def starts(effects: list) -> list[StartServer]:
    return [e for e in effects if isinstance(e, StartServer)]


def test_wanted_model_starts_once_engine_and_memory_are_known() -> None:
    node = MeshNode(ME, ServingOptions())
    assert starts(node.handle(ModelWanted(model()), 0.0)) == []
    assert starts(node.handle(EngineFound(ENGINE), 0.1)) == []
    (start,) = starts(node.handle(ResourcesSampled(MACHINE), 0.2))
    assert start.plan.name == "tiny"
    assert start.plan.parallel == 4
    assert start.plan.context == 4096


def test_samples_and_repeated_wishes_never_start_a_second_engine() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    for second in range(2, 50):
        smaller = machine(MACHINE.offered_bytes - second * 300_000_000)
        assert starts(node.handle(ResourcesSampled(smaller), float(second))) == []
        assert starts(node.handle(ModelWanted(model()), float(second))) == []
    assert node.serving.engine_starts == 1


def test_only_the_first_model_is_served_without_serve_all() -> None:
    node = serving_node("first", "second")
    assert set(node.serving.slots) == {"first"}
    assert "serve-all" in node.serving.unplaced[ModelName("second")].reason


def test_serve_all_serves_every_model_that_fits() -> None:
    node = serving_node("first", "second", options=ServingOptions(serve_all=True))
    assert {name for name, slot in node.serving.slots.items() if slot.run} == {"first", "second"}


def test_model_too_big_waits_and_says_what_is_missing() -> None:
    node = serving_node()
    effects = node.handle(ModelWanted(model("huge", 40_000_000_000)), 1.0)
    assert starts(effects) == []
    (record,) = [e for e in effects if isinstance(e, RecordEvent) and e.kind == "model_waits"]
    assert "Waiting for more peers - need 40.1 GB, have 16.0 GB" in record.text


def test_model_that_waited_starts_by_itself_when_memory_is_there() -> None:
    node = serving_node()
    node.handle(ModelWanted(model("huge", 40_000_000_000)), 1.0)
    effects = node.handle(ResourcesSampled(machine(64_000_000_000)), 2.0)
    assert [s.plan.name for s in starts(effects)] == ["huge"]
    assert not node.serving.unplaced


def test_waiting_is_said_once_not_with_every_sample() -> None:
    node = serving_node()
    node.handle(ModelWanted(model("huge", 40_000_000_000)), 1.0)
    for second in range(2, 20):
        effects = node.handle(ResourcesSampled(machine(16_000_000_000 + second)), float(second))
        assert not any(isinstance(e, RecordEvent) for e in effects)


def test_slots_are_given_up_before_context_gets_cramped() -> None:
    node = MeshNode(ME, ServingOptions())
    node.handle(EngineFound(ENGINE), 0.0)
    long_model = model("long")
    node.handle(ResourcesSampled(machine(80_000_000)), 0.0)
    (start,) = starts(node.handle(ModelWanted(long_model), 0.0))
    assert start.plan.parallel == 2
    assert start.plan.context == 4096


def test_no_engine_means_no_start_and_a_reason_for_people() -> None:
    node = MeshNode(ME, ServingOptions())
    node.handle(ResourcesSampled(MACHINE), 0.0)
    node.handle(ModelWanted(model()), 0.0)
    node.handle(EngineUnavailable("No llama-server was found. Run `mesh-llm engine install`."), 0.1)
    assert node.serving.engine_starts == 0
    assert node.handle(ServerProgressed(RunId(9), "loading"), 0.2) == []
    shown = node._shown["model/tiny"]
    assert shown["status"] == "cold"
    assert "engine install" in shown["reason"]
    assert node._shown["node"]["state"] == "failed"


def test_refused_model_is_cold_with_its_reason() -> None:
    node = serving_node()
    node.handle(ModelRefused(ModelName("broken"), "broken.gguf is truncated."), 1.0)
    assert node._shown["model/broken"]["state"] == "failed"
    assert node._shown["model/broken"]["reason"] == "broken.gguf is truncated."
