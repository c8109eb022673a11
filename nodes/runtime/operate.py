"""An operator's action by its word: one table for the command line, the console and the channel layer."""

from nodes.runtime.handle import NodeHandle, OperatorResult

ACTIONS = ("drop", "load", "restart", "stop")


async def operate(handle: NodeHandle, action: str, model: str) -> OperatorResult:
    """Return the true outcome of one operator action; an unknown one is an outcome too."""
    match action:
        case "drop":
            return await handle.operator.drop(model)
        case "load":
            return await handle.operator.load(model)
        case "restart":
            return await handle.operator.restart(model)
        case "stop":
            return await handle.operator.stop()
        case _:
            return OperatorResult(
                False, "Unknown action: this node knows drop, load, restart and stop."
            )
