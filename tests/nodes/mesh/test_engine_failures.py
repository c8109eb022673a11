"""What a node does when an engine ends by itself."""

from nodes.mesh.effects import RecordEvent, StartServer, StopServer
from nodes.mesh.events import (
    DropRequested,
    ModelRefused,
    ModelWanted,
    ResourcesSampled,
    RestartRequested,
    TimePassed,
)
from nodes.mesh.ids import ModelName
from nodes.mesh.node import MeshNode
from nodes.mesh.reconcile import (
    RESTART_DELAY_MAX_S,
    RESTARTS_MAX,
    STABLE_AFTER_S,
    restart_delay_s,
)
from nodes.mesh.serving import REFUSED_MAX
from tests.nodes.mesh.facts import MACHINE, exited, machine, model, ready, serving_node


def crash_until_given_up(node: MeshNode) -> tuple[int, float]:
    run_id, now = 1, 0.0
    while True:
        node.handle(exited(run_id), now)
        if node.deadline is None:
            return run_id, now
        now = node.deadline
        effects = node.handle(TimePassed(), now)
        assert any(isinstance(e, StartServer) for e in effects)
        run_id += 1


def test_engine_that_ended_is_started_again_after_the_delay() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    effects = node.handle(exited(1), 5.0)
    assert not any(isinstance(e, StartServer) for e in effects)
    assert node.deadline == 6.0
    assert not any(isinstance(e, StartServer) for e in node.handle(TimePassed(), 5.9))
    assert any(isinstance(e, StartServer) for e in node.handle(TimePassed(), 6.0))


def test_delays_double_up_to_their_bound() -> None:
    delays = [restart_delay_s(n) for n in range(1, 8)]
    assert delays == [1, 2, 4, 8, 16, RESTART_DELAY_MAX_S, RESTART_DELAY_MAX_S]


def test_engine_that_keeps_failing_is_given_up_with_its_reason() -> None:
    node = serving_node("tiny")
    runs, _ = crash_until_given_up(node)
    assert runs == RESTARTS_MAX + 1
    shown = node._shown["model/tiny"]
    assert (shown["status"], shown["state"]) == ("cold", "failed")
    assert "killed" in shown["reason"]
    assert node._shown["node"]["state"] == "failed"


def test_operator_restart_after_giving_up_starts_afresh_at_once() -> None:
    node = serving_node("tiny")
    runs, now = crash_until_given_up(node)
    effects = node.handle(RestartRequested(ModelName("tiny")), now + 1)
    (start,) = [e for e in effects if isinstance(e, StartServer)]
    assert start.plan.run_id == runs + 1


def test_failures_before_a_long_good_run_are_forgotten() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 0.0)
    node.handle(TimePassed(), 1.0)
    node.handle(ready(2), 2.0)
    node.handle(exited(2), 2.0 + STABLE_AFTER_S)
    assert node.deadline == 2.0 + STABLE_AFTER_S + 1.0


def test_report_of_an_old_run_changes_nothing() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 0.0)
    node.handle(TimePassed(), 1.0)
    assert node.handle(exited(1), 1.1) == []
    assert node.handle(ready(1), 1.2) == []


def test_restart_of_a_running_engine_stops_it_first_and_starts_one_new() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    effects = node.handle(RestartRequested(ModelName("tiny")), 2.0)
    assert [type(e) for e in effects if isinstance(e, StartServer | StopServer)] == [StopServer]
    effects = node.handle(exited(1, asked=True), 3.0)
    assert sum(isinstance(e, StartServer) for e in effects) == 1


def test_reason_without_a_full_stop_is_ended_before_the_next_sentence() -> None:
    node = serving_node("tiny")
    effects = node.handle(exited(1, reason="it was killed"), 0.0)
    (record,) = [e for e in effects if isinstance(e, RecordEvent)]
    assert record.text == "tiny ended: it was killed. Trying again in 1 s."


def test_history_says_when_the_next_try_is() -> None:
    node = serving_node("tiny")
    effects = node.handle(exited(1), 0.0)
    (record,) = [e for e in effects if isinstance(e, RecordEvent)]
    assert record.text == "tiny ended: it was killed (-9). Trying again in 1 s."
    assert record.level == "warning"


def test_reason_without_a_full_stop_does_not_run_into_the_next_sentence() -> None:
    node = serving_node("tiny")
    effects = node.handle(exited(1, reason="it ended with code 1: no luck"), 0.0)
    (record,) = [e for e in effects if isinstance(e, RecordEvent)]
    assert record.text == "tiny ended: it ended with code 1: no luck. Trying again in 1 s."


def test_model_that_no_longer_fits_at_its_retry_waits_for_memory_and_not_for_time() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 5.0)
    node.handle(ResourcesSampled(machine(1_000_000)), 5.5)
    node.handle(TimePassed(), 6.0)
    assert node.deadline is None, "a deadline that has passed would keep the driver spinning"
    effects = node.handle(ResourcesSampled(MACHINE), 9.0)
    assert any(isinstance(e, StartServer) for e in effects)


def test_model_that_fits_again_before_its_retry_waits_for_that_time() -> None:
    node = serving_node("tiny")
    node.handle(exited(1), 5.0)
    node.handle(ResourcesSampled(machine(1_000_000)), 5.2)
    node.handle(ResourcesSampled(MACHINE), 5.4)
    assert node.deadline == 6.0
    assert any(isinstance(e, StartServer) for e in node.handle(TimePassed(), 6.0))


def test_engine_that_dies_while_its_dropped_model_drains_is_not_tried_again() -> None:
    node = serving_node("tiny", "other")
    node.handle(ready(1), 1.0)
    node.handle(DropRequested(ModelName("tiny"), leave_after=False), 2.0)
    effects = node.handle(exited(1, asked=False), 3.0)
    texts = [e.text for e in effects if isinstance(e, RecordEvent)]
    assert "tiny was stopped." in texts
    assert not any("Trying again" in text for text in texts)


def test_engine_that_dies_while_it_is_restarted_starts_at_once() -> None:
    node = serving_node("tiny")
    node.handle(ready(1), 1.0)
    node.handle(RestartRequested(ModelName("tiny")), 2.0)
    effects = node.handle(exited(1, asked=False), 2.1)
    assert sum(isinstance(e, StartServer) for e in effects) == 1


def test_model_that_was_given_up_is_tried_afresh_when_it_is_asked_for_again() -> None:
    node = serving_node("tiny")
    _, now = crash_until_given_up(node)
    effects = node.handle(ModelWanted(model("tiny")), now + 1)
    assert sum(isinstance(e, StartServer) for e in effects) == 1


def test_refused_wishes_are_remembered_up_to_their_bound() -> None:
    node = serving_node()
    for number in range(REFUSED_MAX + 5):
        node.handle(ModelRefused(ModelName(f"no-{number}"), "There is none."), 1.0)
    shown = [key for key in node._shown if key.startswith("model/")]
    assert len(shown) == REFUSED_MAX
    assert f"model/no-{REFUSED_MAX + 4}" in shown
