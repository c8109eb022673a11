"""An operator's action by its word: one table for the command line, the console and the channel layer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nodes.runtime.handle import NodeHandle, Operator, OperatorResult

HOURS_DEFAULT = 24.0
"""How long an invite token made by hand is good, unless said otherwise."""

_Details = Mapping[str, Any]
_Act = Callable[[Operator, str, _Details], Awaitable[OperatorResult]]


async def _new_token(operator: Operator, subject: str, details: _Details) -> OperatorResult:
    try:
        hours = float(details.get("hours") or HOURS_DEFAULT)
        uses = int(details["uses"]) if details.get("uses") else None
    except (TypeError, ValueError):
        return OperatorResult(False, "Hours and uses are numbers.")
    return await operator.new_token(hours, uses, bool(details.get("clients_only")), subject)


_ACTS: dict[str, _Act] = {
    "drop": lambda operator, subject, _: operator.drop(subject),
    "load": lambda operator, subject, _: operator.load(subject),
    "restart": lambda operator, subject, _: operator.restart(subject),
    "why": lambda operator, subject, _: operator.why(subject),
    "stop": lambda operator, _subject, _: operator.stop(),
    "tokens": lambda operator, _subject, _: operator.tokens(),
    "new_token": _new_token,
    "revoke_token": lambda operator, subject, _: operator.revoke_token(subject),
    "rotate": lambda operator, _subject, _: operator.rotate(),
    "forget": lambda operator, subject, _: operator.forget(subject),
    "revoke": lambda operator, subject, _: operator.revoke(subject),
    "block": lambda operator, subject, _: operator.block(subject),
    "drain": lambda operator, subject, _: operator.drain(subject),
    "undrain": lambda operator, subject, _: operator.undrain(subject),
    "doctor": lambda operator, subject, _: operator.diagnose(subject),
    "approve": lambda operator, subject, _: operator.approve(subject),
    "reject": lambda operator, subject, _: operator.reject(subject),
}
ACTIONS = tuple(_ACTS)
"""Every word."""


async def operate(
    handle: NodeHandle, action: str, subject: str, details: _Details | None = None
) -> OperatorResult:
    """Return the true outcome of one operator action; an unknown one is an outcome too.

    `subject` is what it is about: a model's name, a node's id, a token's id or a new token's label.
    """
    act = _ACTS.get(action)
    if act is None:
        known = ", ".join(ACTIONS)
        return OperatorResult(False, f"Unknown action: this node knows {known}.")
    return await act(handle.operator, subject, details or {})
