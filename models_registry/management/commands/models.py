"""`mesh-llm models`: what is on disk, what the catalogue has, and what fits this machine."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from models_registry.catalogue import GB
from models_registry.listing import Listing, Row, list_models
from nodes.management.word_command import WordCommand

RAM_SHARE = 0.75
"""Share of RAM that a node without a GPU offers (the specification's rule)."""
SLOTS_DEFAULT = 4


class Command(WordCommand):
    """Lists models."""

    help = "List the models on disk and in the catalogue, and whether they fit this machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--models-dir", type=Path, default=settings.MESH_LLM_MODELS_DIR)
        parser.add_argument("--max-vram", type=float, help="memory that is offered at most, in GB")
        parser.add_argument(
            "--parallel", type=int, default=SLOTS_DEFAULT, help="requests at the same time"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["parallel"] < 1:
            raise CommandError("--parallel must be at least 1")
        listing = list_models(
            options["models_dir"].expanduser(),
            offered_bytes(options["max_vram"]),
            options["parallel"],
        )
        if options["json"]:
            self.stdout.write(json.dumps(listing.as_json(), indent=2))
        elif self.stdout.isatty():
            print_table(listing)
        else:
            for line in plain_lines(listing):
                self.stdout.write(line)


def offered_bytes(max_vram_gb: float | None) -> int:
    """Return the bytes that a node on this machine would offer without counting GPUs."""
    import psutil

    cap = max_vram_gb if max_vram_gb is not None else settings.MESH_LLM_MAX_VRAM_GB
    share = int(psutil.virtual_memory().total * RAM_SHARE)
    try:
        return share if cap is None else min(share, int(float(cap) * GB))
    except ValueError:
        raise CommandError(f"MESH_LLM_MAX_VRAM is {cap!r}, and not a number of GB") from None


_HEAD = ("model", "size", "trained for", "can", "fits here")


def _cells(row: Row) -> tuple[str, ...]:
    size = (
        f"{row.size_bytes / GB:.1f} GB"
        if row.size_bytes >= 100_000_000
        else f"{row.size_bytes / 1e6:.1f} MB"
    )
    return (
        row.name,
        size,
        f"{row.context:,}" if row.context else "?",
        ", ".join(row.capabilities),
        row.verdict,
    )


def _sections(listing: Listing) -> list[tuple[str, tuple[Row, ...]]]:
    return [
        (f"On disk, in {listing.models_dir}", listing.on_disk),
        (
            "In the catalogue: start with `mesh-llm --model NAME`, or `mesh-llm download NAME`",
            listing.catalogue,
        ),
    ]


def plain_lines(listing: Listing) -> list[str]:
    """Return the listing as lines for a pipe: columns apart by tabs."""
    lines: list[str] = []
    for title, rows in _sections(listing):
        lines += [f"# {title}"]
        lines += ["\t".join(_cells(row)) for row in rows] or ["(none)"]
    lines += [f"# cannot be used\t{path}\t{reason}" for path, reason in listing.bad]
    return lines


def print_table(listing: Listing) -> None:
    """Print the listing on a terminal. Names are shown as they are: no markup in them is obeyed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, rows in _sections(listing):
        table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
        for column in _HEAD:
            number = column in ("size", "trained for")
            table.add_column(column, justify="right" if number else "left", no_wrap=column != "can")
        for row in rows:
            style = "" if row.fits else "dim"
            table.add_row(*(Text(cell, style=style) for cell in _cells(row)))
        console.print(table if rows else Text(f"{title}: none"))
        console.print()
    for path, reason in listing.bad:
        console.print(Text(f"Cannot be used: {path}: {reason}", style="yellow"))
    console.print(
        Text(
            f"Memory offered here: {listing.offered_bytes / GB:.1f} GB (without GPUs)", style="dim"
        )
    )
