"""`mesh-llm download NAME|org/repo/file.gguf`: fetch a model into the models folder."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from models_registry.progress import OnProgress, Progress
from models_registry.resolve import BadModelFile, DownloadFailed, ModelNotFound, resolve
from nodes.management.word_command import WordCommand

PLAIN_STEP = 0.1
"""Share of the download between two lines where no terminal shows a bar."""


class Command(WordCommand):
    """Downloads a model."""

    help = "Download a model of the catalogue, or org/repo/file.gguf of the hub. Goes on where it stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="a catalogue name, or org/repo/file.gguf")
        parser.add_argument("--models-dir", type=Path, default=settings.MESH_LLM_MODELS_DIR)

    def handle(self, *args: Any, **options: Any) -> None:
        models_dir = options["models_dir"].expanduser()
        try:
            with _shown() as on_progress:
                found = resolve(options["model"], models_dir=models_dir, on_progress=on_progress)
        except (ModelNotFound, BadModelFile, DownloadFailed) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            raise CommandError(
                "stopped; what was downloaded is kept: run the same command to go on",
                returncode=130,
            ) from None
        facts = found.facts
        self.stdout.write(f"{facts.name} is ready ({facts.size_bytes / 1e9:.2f} GB): {facts.path}")
        self.stdout.write(f"Serve it with `mesh-llm --model {facts.name}`.")


@contextmanager
def _shown() -> Iterator[OnProgress]:
    """Yield a receiver of progress: a bar on a terminal, else a line for every tenth."""
    if not sys.stderr.isatty():
        yield _Lines().take
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.fields[phase]} {task.description}", markup=False),
        BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None, phase="looking")

        def take(progress: Progress) -> None:
            bars.update(
                task,
                description=progress.name,
                phase=progress.phase,
                completed=progress.done_bytes,
                total=progress.total_bytes or None,
            )

        yield take


class _Lines:
    """Writes a line to standard error for every tenth of a download."""

    def __init__(self) -> None:
        self._next = 0.0

    def take(self, progress: Progress) -> None:
        """Take one progress."""
        if progress.phase != "downloading" or not progress.total_bytes:
            return
        share = progress.done_bytes / progress.total_bytes
        if share >= self._next:
            self._next = share - share % PLAIN_STEP + PLAIN_STEP
            done, total = progress.done_bytes / 1e9, progress.total_bytes / 1e9
            print(f"{progress.name}: {done:.2f} of {total:.2f} GB", file=sys.stderr, flush=True)
