"""What is told of an engine's end. PURE: sentences for people, from what `serving` has decided."""

from nodes.mesh.effects import RecordEvent
from nodes.mesh.ids import ModelName
from nodes.mesh.placement import Wanted
from nodes.mesh.plans import ServerPlan
from nodes.mesh.reconcile import RESTARTS_MAX, Slot


def how_it_starts(plan: ServerPlan, wish: Wanted | None, nodes: int) -> str:
    """Return the sentence that announces an engine; `nodes` of a split, 0 or 1: it runs here alone."""
    over = f" over {nodes} nodes" if nodes > 1 else ""
    drafts = ""
    if plan.draft is not None:
        drafts = f", {plan.draft.name} guesses ahead"
    elif wish is not None and wish.draft is not None:
        drafts = f", without its draft {wish.draft.name}, for which there is no room"
    return f"Starting {plan.name}{over}: {plan.parallel} slots of {plan.context} tokens{drafts}."


def how_it_ended(name: ModelName, slot: Slot, reason: str, asked: bool, now: float) -> RecordEvent:
    """Return the line of history of an engine that ended; `slot` has taken note of it."""
    if asked:
        return RecordEvent("engine_stopped", f"{name} was stopped.", model=name)
    if slot.gave_up:
        text = (
            f"{name} ended {RESTARTS_MAX + 1} times in a row and stays down: {sentence(reason)} "
            "Mend the cause, then restart it from the console."
        )
        return RecordEvent("engine_gave_up", text, "error", name)
    assert slot.retry_at_s is not None
    wait_s = slot.retry_at_s - now
    text = f"{name} ended: {sentence(reason)} Trying again in {wait_s:.0f} s."
    return RecordEvent("engine_exited", text, "warning", name)


def how_it_goes_on(reason: str, wait_s: float) -> str:
    """Return the sentences of a split whose engine ended; `wait_s`: until it is planned anew."""
    when = f" in {wait_s:.0f} s, since it ended again and again" if wait_s else ""
    return f"{sentence(reason)} It is planned anew{when}."


def sentence(reason: str) -> str:
    """Return the reason with a full stop, so that another sentence may follow."""
    return reason if reason.endswith((".", "!", "?")) else f"{reason}."
