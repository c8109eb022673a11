"""What is told of an engine's end. PURE: sentences for people, from what `serving` has decided."""

from nodes.mesh.effects import RecordEvent
from nodes.mesh.ids import ModelName
from nodes.mesh.reconcile import RESTARTS_MAX, Slot


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


def sentence(reason: str) -> str:
    """Return the reason with a full stop, so that another sentence may follow."""
    return reason if reason.endswith((".", "!", "?")) else f"{reason}."
