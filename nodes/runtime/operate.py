"""An operator's action by its word: one table for the command line, the console and the channel layer."""

from nodes.runtime.handle import NodeHandle, OperatorResult

ACTIONS = ("drop", "load", "restart", "stop", "forget", "revoke", "approve", "revoke_token")


async def operate(handle: NodeHandle, action: str, target: str) -> OperatorResult:
    """Return the true outcome of one operator action; an unknown one is an outcome too.

    `target` is a model's name, a node's id or a token's id, as the action needs.
    """
    match action:
        case "drop":
            return await handle.operator.drop(target)
        case "load":
            return await handle.operator.load(target)
        case "restart":
            return await handle.operator.restart(target)
        case "stop":
            return await handle.operator.stop()
        case "forget":
            return await handle.operator.forget(target)
        case "revoke":
            return await handle.operator.revoke(target)
        case "approve":
            return await handle.operator.approve(target)
        case "revoke_token":
            return await handle.operator.revoke_token(target)
        case _:
            return OperatorResult(False, f"Unknown action: this node knows {', '.join(ACTIONS)}.")
