"""Which wanted models this node runs, and how: a pure function of wishes and memory.

Decides for one node alone; the mesh's election decides between nodes and hands its result down.
A model that already runs is never moved or resized because memory figures drifted: only a start
takes a new decision (spec, Pinned 13).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nodes.mesh import fit
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.reconcile import STOP_GRACE_S
from nodes.mesh.split_seats import Seat

PARALLEL_AUTO = (4, 2, 1)
"""Slots tried in this order when the operator gave none. Four is llama-server's own default; more
slots than people who ask only shrink each one's context."""

COMFORTABLE_CONTEXT = 8192
"""Tokens a slot should have before slots are added: what a coding agent's first prompt takes."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """What the operator fixed about serving; None means: decide by what fits."""

    serve_all: bool = False
    """Serve every wanted model that fits, not the first alone."""
    force_split: bool = False
    """Split even what fits; gossiped, so that the whole group agrees."""
    context: int | None = None
    parallel: int | None = None
    draft_max: int = 8
    rpc_self: bool = False
    device: str | None = None
    tensor_split: tuple[float, ...] | None = None
    stop_grace_s: float = STOP_GRACE_S
    """What open streams get when a model is dropped or the node stops."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that somebody wants served, in the order of asking."""

    model: ModelFacts
    draft: ModelFacts | None


@dataclass(frozen=True, slots=True)
class Placed:
    """This node is to run the model, so."""

    wanted: Wanted
    context: int
    parallel: int
    need_bytes: int


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """This node does not run the model, because."""

    wanted: Wanted
    need_bytes: int
    have_bytes: int
    reason: str
    taken: bool = False
    """True: it might fit, but the node serves another model; False: it does not fit."""


def place(
    wanted: Iterable[Wanted], free_bytes: int, taken: int, options: ServingOptions
) -> tuple[Placed | NotPlaced, ...]:
    """Return a decision for each wish, in order.

    `free_bytes` is what is offered and not taken by running engines; `taken` counts those engines.
    Without `serve_all` one model is served, the first in order.
    """
    decisions: list[Placed | NotPlaced] = []
    for wish in wanted:
        if taken and not options.serve_all:
            need = least_need(wish.model, options, wish.draft)
            reason = "this node already serves a model; another node may serve it (or --serve-all)"
            decisions.append(NotPlaced(wish, need, free_bytes, reason, taken=True))
            continue
        decision = _fit_one(wish, free_bytes, options)
        if isinstance(decision, NotPlaced) and wish.draft is not None:
            # A draft only makes answers come sooner: without it is better than not at all.
            decision = _fit_one(Wanted(wish.model, None), free_bytes, options)
        decisions.append(decision)
        if isinstance(decision, Placed):
            free_bytes -= decision.need_bytes
        # The first wish holds its place even while it does not fit: it waits for peers.
        taken += 1
    return tuple(decisions)


def _fit_one(wish: Wanted, free_bytes: int, options: ServingOptions) -> Placed | NotPlaced:
    tries = (options.parallel,) if options.parallel else PARALLEL_AUTO
    for parallel in tries:
        context = options.context or fit.auto_context(wish.model, free_bytes, parallel, wish.draft)
        if context is None:
            continue
        need = fit.memory_needed(wish.model, context, parallel, wish.draft).total_bytes
        cramped = context < min(
            COMFORTABLE_CONTEXT, wish.model.context_train or COMFORTABLE_CONTEXT
        )
        if need <= free_bytes and not (cramped and parallel > 1 and options.parallel is None):
            return Placed(wish, context, parallel, need)
    need = least_need(wish.model, options, wish.draft)
    return NotPlaced(wish, need, free_bytes, waiting_text(need, free_bytes))


def place_spread(
    wish: Wanted, seats: Sequence[Seat], have_bytes: int, options: ServingOptions
) -> Placed:
    """Return how a model is run over `seats`, the host's first, with `have_bytes` together.

    `need_bytes` is this host's own part. Every machine has compute buffers of its own. What has been found
    to cover the least need always runs: with the least context and one slot if need be.
    """
    buffers = fit.memory_needed(wish.model, fit.least_context(wish.model), 1, None).compute_bytes
    found = _fit_one(wish, have_bytes - buffers * (len(seats) - 1), options)
    if isinstance(found, NotPlaced):
        parallel, context = options.parallel or 1, options.context or fit.least_context(wish.model)
        found = Placed(wish, context, parallel, least_need(wish.model, options, wish.draft))
    layers = sum(seat.layers for seat in seats) or 1
    return replace(found, need_bytes=found.need_bytes * seats[0].layers // layers)


def least_need(model: ModelFacts, options: ServingOptions, draft: ModelFacts | None = None) -> int:
    """Return the fewest bytes with which this node would serve a model as its operator wants it."""
    parallel = options.parallel or 1
    context = options.context or fit.least_context(model)
    return fit.memory_needed(model, context, parallel, draft).total_bytes


def waiting_text(need_bytes: int, have_bytes: int) -> str:
    """Return the line of scenario 4, in decimal GB."""
    return f"Waiting for more peers - need {gb(need_bytes)}, have {gb(have_bytes)}"


def gb(size_bytes: int) -> str:
    """Return decimal GB with one digit, as people read it: ``18.7 GB``; small sizes in MB."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
