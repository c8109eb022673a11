"""A node inside somebody else's ASGI server: no ports of its own, flags from the environment."""

import logging

from meshsite import django_side, node_logging, settings
from meshsite.compose import RunningNode, build_node
from meshsite.options import Options, parse
from meshsite.told import Endpoints
from models_registry import children
from nodes.runtime.handle import AsgiApp
from nodes.runtime.home import Home, enter

log = logging.getLogger("mesh.node")


class EmbeddedNode:
    """The node and its folder. When the server's process ends, the guard ends the engines."""

    def __init__(self, home: Home, node: RunningNode, console: AsgiApp) -> None:
        self._home = home
        self._node = node
        self.api: AsgiApp = node.api_port_app
        self.console = console
        self.loopback_only = node.options.loopback_only

    @classmethod
    async def start(cls) -> "EmbeddedNode":
        """Start the node on the running loop.

        Raises:
            OptionsError, HomeError, IdentityError ...: as for `mesh-llm`; the server's log shows them.
        """
        options = parse([], "mesh-llm (environment)")
        home = enter(
            settings.MESH_LLM_HOME, ephemeral=settings.MESH_LLM_EPHEMERAL_KEY or options.client
        )
        try:
            return cls._on(options, home)
        except BaseException:
            home.close()
            raise

    @classmethod
    def _on(cls, options: Options, home: Home) -> "EmbeddedNode":
        node_logging.configure(home.logs, as_json=options.log_json)
        for line in children.reap(home.run):
            log.warning("%s", line)
        url = f"http://localhost:{options.port}"
        django_side.set_up(home)
        node = build_node(
            options, home, lambda quic: Endpoints(options.port, options.port, url, url, quic)
        )
        node.start()
        made = cls(home, node, django_side.console_application())
        node.spawn(django_side.keep_records(node))
        return made

    async def stop(self) -> None:
        """Drain, end the engines, give the folder back."""
        self._node.request_stop("Stopping: the server shuts down.")
        await self._node.exited
        await self._node.close()
        self._home.close()
