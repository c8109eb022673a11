"""What a node makes of a draft model: started with it where there is room, shown with what it is worth."""

from dataclasses import replace

from nodes.mesh import fit
from nodes.mesh.effects import RecordEvent, StartServer
from nodes.mesh.events import (
    EngineFound,
    ModelWanted,
    ResourcesSampled,
    ServerDrafted,
    ServerExited,
)
from nodes.mesh.ids import ModelName, RunId
from nodes.mesh.placement import ServingOptions
from nodes.mesh.serving import Serving
from nodes.mesh.view import state_map
from tests.nodes.mesh.facts import ENGINE, ME, machine, model, ready

BIG = replace(model("big"), size_bytes=1_000_000_000)
SMALL = replace(model("small"), size_bytes=100_000_000)
NAME = ModelName("big")


def serving(offered_bytes: int) -> tuple[Serving, list]:
    """Return a node's serving half that was asked for BIG, which SMALL drafts for; and its effects."""
    made = Serving(ServingOptions(draft_max=5, parallel=1))
    effects = made.handle(EngineFound(ENGINE), 0.0)
    effects += made.handle(ResourcesSampled(machine(offered_bytes)), 0.0)
    effects += made.handle(ModelWanted(BIG, SMALL), 0.0)
    return made, effects


def plan_of(effects: list) -> StartServer:
    (start,) = [effect for effect in effects if isinstance(effect, StartServer)]
    return start


def said(effects: list) -> str:
    return " ".join(effect.text for effect in effects if isinstance(effect, RecordEvent))


def test_with_room_it_starts_with_its_draft_whose_memory_is_counted() -> None:
    made, effects = serving(16_000_000_000)
    plan = plan_of(effects).plan
    assert (plan.draft, plan.draft_max) == (SMALL, 5)
    with_draft = fit.memory_needed(BIG, plan.context, 1, SMALL).total_bytes
    without = fit.memory_needed(BIG, plan.context, 1, None).total_bytes
    assert made.used_bytes() == with_draft
    assert with_draft >= without + SMALL.size_bytes
    assert "small guesses ahead" in said(effects)


def test_without_room_for_the_draft_it_starts_alone_and_says_so() -> None:
    made, effects = serving(fit.least_memory(BIG, 1) + SMALL.size_bytes // 2)
    assert plan_of(effects).plan.draft is None
    assert "without its draft small, for which there is no room" in said(effects)
    assert state_map(ME, made)["model/big"]["draft"] is None


def test_what_the_guesses_are_worth_is_shown_and_goes_with_the_engine() -> None:
    made, _ = serving(16_000_000_000)
    run = RunId(1)
    made.handle(ready(1), 1.0)
    entry = state_map(ME, made)["model/big"]
    assert (entry["draft"], entry["draft_tokens"], entry["draft_acceptance"]) == ("small", 0, None)
    made.handle(ServerDrafted(run, 128, 112), 2.0)
    made.handle(ServerDrafted(RunId(7), 1, 1), 2.0)  # of a run that is over
    entry = state_map(ME, made)["model/big"]
    assert (entry["draft_tokens"], entry["draft_acceptance"]) == (128, 0.875)
    made.handle(ServerExited(run, -9, "killed", asked=False), 3.0)
    assert state_map(ME, made)["model/big"]["draft_acceptance"] is None
