"""A node cut down to its supervisor: starts one engine, prints what it started, and waits to be killed.

`python -m tests.models_registry.little_node MODEL RUN_DIR [rpc]`
"""

import asyncio
import sys
from pathlib import Path

from models_registry.supervisor import Supervisor
from nodes.mesh.events import Event, ServerExited, ServerReady
from tests.models_registry.real_engine import real_engine
from tests.models_registry.supervising import plan


async def main() -> None:
    folder = Path(sys.argv[2])
    ready = asyncio.Event()

    def report(event: Event) -> None:
        assert not isinstance(event, ServerExited), event
        if isinstance(event, ServerReady):
            ready.set()

    supervisor = Supervisor(
        real_engine(), run_dir=folder / "run", log_dir=folder / "logs", report=report
    )
    await supervisor.start(plan(sys.argv[1], rpc_self="rpc" in sys.argv))
    await ready.wait()
    print(supervisor.guard_pid, *supervisor.pids(), flush=True)
    await asyncio.sleep(600)


asyncio.run(main())
