"""How the mesh wants a wanted model run here, where it is not simply served alone.

Made by `duties` from elections and orders, obeyed by `serving`. Decides only what a directive means for a
run that is there already. PURE.
"""

from dataclasses import dataclass

from nodes.mesh.plans import ServerPlan, SplitPlan
from nodes.mesh.split_seats import Seat


@dataclass(frozen=True, slots=True)
class Left:
    """Do not run it here: another node has it, or this one lends its memory to its split."""

    text: str


@dataclass(frozen=True, slots=True)
class Gather:
    """It is to be split and its workers are not ready: keep what answers, start nothing."""

    gently: bool = False
    """The split that runs ends because a worker is about to go: its open answers have their grace."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Run it over these workers."""

    plan: SplitPlan
    seats: tuple[Seat, ...]
    """Host first."""
    have_bytes: int = 0
    """Memory of all of them together."""


GATHER = Gather()
RETIRE = Gather(gently=True)
Directive = Left | Gather | Spread | None
"""None: alone, if it fits."""


def contradicts(directive: Directive, plan: ServerPlan) -> bool:
    """Return whether a run by this plan is to end because of the directive."""
    match directive:
        case Left():
            return True
        case Spread(split):
            return plan.split != split
        case _:
            return plan.split is not None
