"""`mesh-llm` from the flags to the exit code: home, ports, loop, servers, in order and back.

Order up: folder and lock, ports, loop, identity, API server, node, console, database.
Order down: API (open answers get their grace), engines, console, tasks, folder.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from meshsite import django_side, exit_codes, greeting, node_logging, ports, settings
from meshsite.compose import RunningNode, build_node
from meshsite.console_server import ConsoleServer, install_reactor
from meshsite.mesh_entry import CannotJoin
from meshsite.options import Options, OptionsError, parse
from meshsite.told import Endpoints
from meshsite.version import VERSION
from models_registry import children
from models_registry.shards import model_stem
from nodes.runtime import bind_port
from nodes.runtime.home import Home, HomeError, cannot_use, enter
from nodes.runtime.identity import IdentityError
from nodes.runtime.mesh_key import MeshKeyError
from nodes.runtime.token_errors import TokenError
from nodes.runtime.token_ledger import TokenLedgerError
from nodes.runtime.trust_file import TrustFileError
from nodes.runtime.web_guard import is_loopback
from proxy.front import ApiServer

log = logging.getLogger("mesh.node")

API_STOP_GRACE_S = 1.0
"""What answers still open after the engines stopped get: they only have an error left to read."""

CONSOLE_STOP_GRACE_S = 1.0

MODELS_WAIT_S = 1.0
"""How long the start-up lines wait for the models' files: a model that is not there is refused before
anything is said to be served; a download goes on behind the lines."""


CANNOT_START = (
    HomeError,
    ports.PortError,
    bind_port.BindPortError,
    IdentityError,
    MeshKeyError,
    TokenError,
    TokenLedgerError,
    TrustFileError,
    CannotJoin,
)
"""What may go wrong before the node runs; each text is one sentence with what to do."""


def main(argv: Sequence[str], prog: str = "mesh-llm") -> int:
    """Run a node until it is told to stop; return the exit code."""
    try:
        options = parse(argv, prog)
    except OptionsError as error:
        return _say(error, exit_codes.USAGE)
    # Until the loop takes the signals over, a stop unwinds like an error, so that nothing stays behind.
    signal.signal(signal.SIGTERM, _stopped_early)
    try:
        home = enter(
            settings.MESH_LLM_HOME, ephemeral=settings.MESH_LLM_EPHEMERAL_KEY or options.client
        )
    except HomeError as error:
        return _say(error, exit_codes.CANNOT_START)
    try:
        _open_logs(options, home)
        return _run(options, home)
    except CANNOT_START as error:
        return _say(error, exit_codes.CANNOT_START)
    finally:
        home.close()


def _stopped_early(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _open_logs(options: Options, home: Home) -> None:
    """Begin to log, and say what an earlier start left running. Raises: HomeError."""
    try:
        node_logging.configure(home.logs, as_json=options.log_json)
        ended = children.reap(home.run)
    except OSError as error:
        raise HomeError(cannot_use(home.path, f"{error.filename}: {error.strerror}")) from error
    for line in ended:
        log.warning("%s", line)


def _say(error: Exception, code: int) -> int:
    sys.stderr.write(f"mesh-llm: {error}\n")
    return code


def _run(options: Options, home: Home) -> int:
    api = ports.bind(options.host, options.port, what="API", flag="--port")
    console = []
    if options.console:
        console = ports.bind_console(
            options.host, options.console_port, given=options.console_port_given
        )
    loop = _new_loop()
    if options.console:
        install_reactor(loop)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_Boot(options, home, api, console).run())


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class _Boot:
    """One run of the node on its loop."""

    def __init__(
        self,
        options: Options,
        home: Home,
        api: list[socket.socket],
        console: list[socket.socket],
    ) -> None:
        self._options = options
        self._home = home
        self._api_sockets = api
        self._console_sockets = console
        self._console: ConsoleServer | None = None
        self._interrupts = 0

    async def run(self) -> int:
        node = build_node(self._options, self._home, self._endpoints)
        server = ApiServer(node.api_port_app, self._api_sockets, node.api.config)
        try:
            await server.start()
            node.on_fatal = lambda text: self._cannot_go_on(node, text)
            node.start()
            self._handle_signals(node)
            self._write_running(node)
            await self._open_console(node)
            await self._happened(node, node.engine_looked_for)
            await self._happened(node, node.models_looked_for, MODELS_WAIT_S)
            await self._happened(node, node.mesh.entered)
            if not node.exited.done():
                self._greet(node)
            node.spawn(self._keep_records(node))
            return await node.exited
        finally:
            await self._shut_down(server, node)

    async def _happened(
        self, node: RunningNode, event: asyncio.Event, timeout_s: float | None = None
    ) -> None:
        """Return once the event is set, the node is to end (a hung binary takes long), or it is late."""
        waiting = node.spawn(event.wait())
        await asyncio.wait(
            {waiting, node.exited}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )

    async def _shut_down(self, server: ApiServer, node: RunningNode) -> None:
        await server.stop(API_STOP_GRACE_S)
        if self._console is not None:
            await self._console.stop(CONSOLE_STOP_GRACE_S)
        await node.close()

    def _handle_signals(self, node: RunningNode) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._interrupted, node, signal.Signals(number).name)

    def _interrupted(self, node: RunningNode, name: str) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            node.request_stop(f"Stopping ({name}): open answers may finish; again to stop at once.")
        else:
            node.exit(exit_codes.CUT_OFF)

    def _write_running(self, node: RunningNode) -> None:
        ends = node.endpoints
        self._home.write_running(
            {
                "node_id": node.handle.node_id,
                "api_port": ends.api_port,
                "api_url": ends.api_url,
                "console_port": ends.console_port,
                "console_url": ends.console_url,
            }
        )

    async def _open_console(self, node: RunningNode) -> None:
        django_side.set_up(self._home)
        if not self._options.console:
            return
        application = django_side.console_application()
        self._console = ConsoleServer(application, self._console_sockets)
        await self._console.start()

    async def _keep_records(self, node: RunningNode) -> None:
        refused = await django_side.keep_records(node)
        if refused:
            self._cannot_go_on(node, refused)

    def _cannot_go_on(self, node: RunningNode, text: str) -> None:
        sys.stderr.write(f"mesh-llm: {text}\n")
        node.exit(exit_codes.CANNOT_START)

    def _greet(self, node: RunningNode) -> None:
        ends = node.endpoints
        if self._options.log_json:
            log.info(
                "The API is open.", extra={"api_url": ends.api_url, "console": ends.console_url}
            )
            return
        operator = django_side.operator_link(ends.console_url) if ends.console_url else None
        facts = greeting.Greeting(
            version=VERSION,
            node_name=node.name,
            api_url=ends.api_url,
            console_url=ends.console_url,
            operator_url=operator,
            models=tuple(model_stem(Path(spec).name) for spec in self._options.models),
            token=node.handle.invite_token(),
            needs_key=self._options.api_key is not None,
            alone_because=node.mesh.alone_because,
            joined=bool(self._options.join),
            client=self._options.client,
        )
        sys.stdout.write("\n".join(greeting.lines(facts)) + "\n")
        sys.stdout.flush()

    def _endpoints(self, quic_port: int | None) -> Endpoints:
        return _endpoints(self._options, self._api_sockets, self._console_sockets, quic_port)


def _endpoints(
    options: Options,
    api: Sequence[socket.socket],
    console: Sequence[socket.socket],
    quic_port: int | None,
) -> Endpoints:
    shown = "localhost" if is_loopback(options.host) else options.host
    shown = socket.gethostname() if shown in ("0.0.0.0", "::") else shown  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    api_port = ports.port_of(api)
    console_port = ports.port_of(console) if console else None
    return Endpoints(
        api_port=api_port,
        console_port=console_port,
        api_url=f"http://{shown}:{api_port}",
        console_url=f"http://{shown}:{console_port}" if console_port else None,
        quic_port=quic_port,
    )
