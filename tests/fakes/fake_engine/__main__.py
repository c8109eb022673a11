"""`python -m tests.fakes.fake_engine llama-server|ggml-rpc-server ARGS`: what the launchers exec."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from tests.fakes.fake_engine import about
from tests.fakes.fake_engine.options import Options, read_options


def main(program: str, argv: Sequence[str]) -> int:
    """Return the exit code: 0 after SIGTERM, 1 where the port is taken or the model is to fail."""
    rpc = program != "llama-server"
    if "-h" in argv or "--help" in argv:
        print(about.RPC_HELP if rpc else about.help_text())
        return 0
    if "--version" in argv:
        print(about.VERSION, file=sys.stderr)
        return 0
    if "--list-devices" in argv:
        print(about.DEVICES)
        return 0
    options = read_options(argv)
    if options.load_fails:
        print(f"error: failed to load model, '{options.model}'", file=sys.stderr)
        return 1
    try:
        _run(options, rpc)
    except OSError as error:
        print(f"error: couldn't bind to {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: Options, rpc: bool) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(options, rpc))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, rpc))


async def _serve(options: Options, rpc: bool) -> None:
    # Imported late: `--help` and `--version` of a launcher are asked for often and must be quick.
    from tests.fakes.fake_engine.pages import Server
    from tests.fakes.fake_engine.protocol import EngineProtocol
    from tests.fakes.fake_engine.streams import StreamFeed

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    server = Server(options, StreamFeed(loop, options.token_interval_s))
    port = options.port if not (rpc and options.port == 8080) else 50052
    listener = await loop.create_server(
        asyncio.Protocol if rpc else lambda: EngineProtocol(server),
        options.host,
        port,
        backlog=1024,
    )
    if rpc:
        print("Starting RPC server v8.0.0", file=sys.stderr, flush=True)
    print(f"fake engine: listening on {options.host}:{port}", file=sys.stderr, flush=True)
    if options.load_s:
        loop.call_later(options.load_s, server.loaded)
    if options.exit_after_s is not None:
        loop.call_later(options.exit_after_s, os.abort)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if options.ignore_term else ended.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        await ended.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
