"""`mesh-llm engine install|show`: get a llama.cpp engine, and say which one is used."""

import dataclasses
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from models_registry.engine.faults import EngineFault
from models_registry.engine.probe import Engine
from models_registry.engine.steps import Progress
from nodes.management.word_command import WordCommand


class Command(WordCommand):
    """Install or show the engine. Never needs the database."""

    help = "Install llama.cpp's engine into the home, or show the one in use."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the two words and their options."""
        words = parser.add_subparsers(dest="word", required=True)
        install = words.add_parser(
            "install", help="get an engine, unless a working one is in place"
        )
        install.add_argument(
            "--method",
            choices=["auto", "debian", "source"],
            default="auto",
            help="auto: Debian's signed packages where they fit, else a build with the compiler",
        )
        install.add_argument("--force", action="store_true", help="replace a working engine")
        install.add_argument(
            "--to", type=Path, help="a home: the engine goes into DIR/engine", metavar="DIR"
        )
        show = words.add_parser("show", help="which engine is used, and what it can do")
        show.add_argument("--json", action="store_true")
        show.add_argument("--bin-dir", type=Path, help="look here first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; a fault of the engine is one sentence and exit code 1."""
        try:
            if options["word"] == "install":
                self._install(options)
            else:
                self._show(options)
        except EngineFault as fault:
            raise CommandError(str(fault)) from fault

    def _install(self, options: dict[str, Any]) -> None:
        from models_registry.engine.install import install, working

        home = (options["to"] or settings.MESH_LLM_HOME).expanduser().absolute()
        if not options["force"] and (there := working(home)) is not None:
            self.stdout.write(f"engine: {_title(there)} is in place")
            return
        with _progress() as progress:
            engine = install(home, progress, force=options["force"], method=options["method"])
        self.stdout.write(f"engine: {_title(engine)} installed")

    def _show(self, options: dict[str, Any]) -> None:
        from models_registry.engine.devices import list_devices
        from models_registry.engine.find import find

        engine = find(options["bin_dir"], settings.MESH_LLM_HOME, settings.SEARCH_PATH)
        devices = list_devices(engine)
        if options["json"]:
            shown = dataclasses.asdict(engine) | {
                "devices": [dataclasses.asdict(d) for d in devices]
            }
            self.stdout.write(json.dumps(shown, indent=2))
            return
        facts = engine.facts
        self.stdout.write(f"engine      {_title(engine)}")
        self.stdout.write(f"found by    {facts.source}")
        rpc = f"{facts.rpc_server_path} (protocol {facts.rpc_version or 'not told'})"
        self.stdout.write(
            f"rpc-server  {rpc if facts.rpc_server_path else 'none: no part in a split'}"
        )
        for device in devices:
            self.stdout.write(
                f"device      {device.name}: {device.description}, "
                f"{device.free_bytes / 1e9:.1f} of {device.total_bytes / 1e9:.1f} GB free"
            )
        if not devices:
            self.stdout.write("device      the CPU alone")
        for name, spelt in dataclasses.asdict(engine.flags).items():
            text = " ".join(spelt) if isinstance(spelt, list | tuple) else spelt
            self.stdout.write(f"flag        {name:18} {text or '-'}")


def _title(engine: Engine) -> str:
    facts = engine.facts
    build = f" (build {facts.build})" if facts.build else ""
    return f"llama.cpp {facts.version or 'of unknown version'}{build} at {facts.server_path}"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a bar on a terminal, else one plain line for each new step."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def plain(text: str, fraction: float | None) -> None:
            if said[-1:] != [text]:
                said[:] = [text]
                print(f"engine: {text}", file=sys.stderr, flush=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("engine: {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def rich_progress(text: str, fraction: float | None) -> None:
            bar.update(
                task,
                description=text,
                total=None if fraction is None else 1.0,
                completed=fraction or 0,
            )

        yield rich_progress
