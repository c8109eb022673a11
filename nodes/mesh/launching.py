"""From a decision to the plan of one engine run. PURE."""

from nodes.mesh.directives import Spread
from nodes.mesh.ids import RunId
from nodes.mesh.placement import Placed, ServingOptions
from nodes.mesh.plans import ServerPlan


def server_plan(
    run_id: RunId,
    placed: Placed,
    options: ServingOptions,
    spread: Spread | None,
    has_devices: bool,
) -> ServerPlan:
    """Return how the engine is to be started; `spread` None: it runs the whole model here.

    In a split a host without devices computes its part through an rpc-server of its own: llama-server
    gives its own CPU no layers beside rpc-servers. The operator's ratios are in the seats already.
    """
    return ServerPlan(
        run_id=run_id,
        model=placed.wanted.model,
        context=placed.context,
        parallel=placed.parallel,
        draft=placed.wanted.draft,
        draft_max=options.draft_max,
        rpc_self=options.rpc_self or (spread is not None and not has_devices),
        device=options.device,
        tensor_split=options.tensor_split if spread is None else None,
        split=spread.plan if spread is not None else None,
    )
