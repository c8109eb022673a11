"""Decides what `mesh-llm models` tells: what is on disk, what the catalogue has, and what fits here."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models_registry.catalogue import GB, Entry, entries
from models_registry.gguf_facts import clean_title
from models_registry.scan import Scan, scan
from nodes.mesh.fit import UNKNOWN_FACTOR, auto_context, least_memory
from nodes.mesh.model_facts import ModelFacts


@dataclass(frozen=True, slots=True)
class Row:
    """One model."""

    name: str
    on_disk: bool
    size_bytes: int
    quantisation: str
    context: int
    """Tokens that it was trained for; 0 when unknown."""
    capabilities: tuple[str, ...]
    fits: bool
    verdict: str
    """For people: ``yes, 32,768 tokens`` or what is missing."""
    path: str | None
    """None for a model of the catalogue that is not on disk."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that the command shows."""

    models_dir: str
    offered_bytes: int
    on_disk: tuple[Row, ...]
    catalogue: tuple[Row, ...]
    """Entries whose file is not on disk."""
    bad: tuple[tuple[str, str], ...]
    """(path, reason) of files that cannot be used."""

    def as_json(self) -> dict[str, Any]:
        """Return the listing as plain values."""
        from dataclasses import asdict

        return asdict(self) | {
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad]
        }


def list_models(models_dir: Path, offered_bytes: int, parallel: int) -> Listing:
    """Return what there is, and whether each could be served within `offered_bytes` by `parallel` slots."""
    found: Scan = scan(models_dir)
    stems = {facts.name.casefold() for facts in found.models}
    return Listing(
        models_dir=str(models_dir),
        offered_bytes=offered_bytes,
        on_disk=tuple(_disk_row(facts, offered_bytes, parallel) for facts in found.models),
        catalogue=tuple(
            _catalogue_row(entry, offered_bytes)
            for entry in entries()
            if entry.stem.casefold() not in stems
        ),
        bad=tuple((clean_title(str(bad.path)), bad.reason) for bad in found.bad),
    )


def known(models: Iterable[ModelFacts], offered_bytes: int, parallel: int) -> tuple[Row, ...]:
    """Return what can be named to be served here: `models` on disk, then what the catalogue has beside."""
    on_disk = [_disk_row(facts, offered_bytes, parallel) for facts in models]
    stems = {row.name.casefold() for row in on_disk}
    rest = [_catalogue_row(e, offered_bytes) for e in entries() if e.stem.casefold() not in stems]
    return (*on_disk, *rest)


def _disk_row(facts: ModelFacts, offered_bytes: int, parallel: int) -> Row:
    context = auto_context(facts, offered_bytes, parallel, None)
    return Row(
        name=clean_title(facts.name),
        on_disk=True,
        size_bytes=facts.size_bytes,
        quantisation=facts.quantisation,
        context=facts.context_train,
        capabilities=tuple(sorted(facts.capabilities)),
        fits=context is not None,
        verdict=_missing(least_memory(facts, parallel), offered_bytes)
        if context is None
        else f"yes, {context:,} tokens",
        path=facts.path,
    )


def _catalogue_row(entry: Entry, offered_bytes: int) -> Row:
    needed = round(entry.size_bytes * UNKNOWN_FACTOR)
    fits = needed <= offered_bytes
    return Row(
        name=entry.name,
        on_disk=False,
        size_bytes=entry.size_bytes,
        quantisation="",
        context=entry.context,
        capabilities=tuple(sorted(entry.capabilities)),
        fits=fits,
        verdict="likely" if fits else _missing(needed, offered_bytes),
        path=None,
    )


def _missing(needed: int, offered_bytes: int) -> str:
    return f"no: {max((needed - offered_bytes) / GB, 0.1):.1f} GB short"
