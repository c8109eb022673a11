"""Decides which file a well-known name means, and which small model drafts for a large one.

Knows the catalogue (`catalogue.toml`) alone: no disk, no hub.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from models_registry.drafting import may_draft
from models_registry.shards import family, model_stem
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import Capability, ModelFacts

CATALOGUE = Path(__file__).with_name("catalogue.toml")
GB = 1_000_000_000
CHOICES_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue."""

    name: str
    repo: str
    """``org/repo`` on the hub."""
    file: str
    """Path inside the repository; of a sharded model its first part."""
    size_bytes: int
    """All files together, rounded: for planning, not for checking."""
    context: int
    capabilities: frozenset[Capability]
    draft: str | None
    """Name of the entry that drafts for this one."""
    mmproj: str | None
    """Path of the vision projector inside the repository."""

    @property
    def stem(self) -> ModelName:
        """The id that the model has once it is on disk."""
        return ModelName(model_stem(PurePosixPath(self.file).name))

    @property
    def spec(self) -> str:
        """``org/repo/file.gguf``."""
        return f"{self.repo}/{self.file}"


class UnknownName(Exception):
    """No entry of that name. `str()` is a sentence; `near` may hold what was meant."""

    def __init__(self, name: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(f"{name!r} is not in the catalogue")
        self.name = name
        self.near = near


class AmbiguousName(Exception):
    """Several entries match. `str()` is a sentence that lists them."""

    def __init__(self, name: str, choices: tuple[str, ...]) -> None:
        shown = ", ".join(choices[:CHOICES_SHOWN_MAX]) + (
            " ..." if len(choices) > CHOICES_SHOWN_MAX else ""
        )
        super().__init__(f"{name!r} could be any of {shown}: give more of the name")
        self.name = name
        self.choices = choices


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole catalogue, in its own order. Read once."""
    with CATALOGUE.open("rb") as file:
        return tuple(_entry(row) for row in tomllib.load(file)["model"])


def _entry(row: dict[str, Any]) -> Entry:
    organisation, repository, path = row["file"].split("/", 2)
    return Entry(
        name=row["name"],
        repo=f"{organisation}/{repository}",
        file=path,
        size_bytes=round(row["size_gb"] * GB),
        context=row["context"],
        capabilities=frozenset(Capability(word) for word in row["can"]),
        draft=row.get("draft"),
        mmproj=row.get("mmproj"),
    )


def lookup(name: str) -> Entry:
    """Return the entry of a name or stem: exact, else without case, else the only one that contains it.

    Raises:
        UnknownName: none matches.
        AmbiguousName: several contain it, and none is it.
    """
    folded = name.casefold()
    for same in (
        [entry for entry in entries() if name in (entry.name, entry.stem)],
        [entry for entry in entries() if folded in (entry.name.casefold(), entry.stem.casefold())],
        [
            entry
            for entry in entries()
            if folded and folded in f"{entry.name}\n{entry.stem}".casefold()
        ],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise AmbiguousName(name, tuple(entry.name for entry in same))
    raise UnknownName(name, near_names(name, [entry.name for entry in entries()]))


def near_names(name: str, candidates: list[str]) -> tuple[str, ...]:
    """Return up to five candidates that are spelled much like `name`, nearest first."""
    import difflib

    folded = {candidate.casefold(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.casefold(), folded, n=5, cutoff=0.5)
    return tuple(folded[key] for key in found)


def draft_for(facts: ModelFacts, on_disk: tuple[ModelFacts, ...]) -> ModelFacts | None:
    """Return the draft model that the catalogue pairs with a model, if its file is on disk; else None.

    Both are known in any quantisation; the draft's own file comes first, then the smallest.
    """
    own = [entry for entry in entries() if family(entry.stem) == family(facts.name)]
    if not own or own[0].draft is None:
        return None
    wanted = next(entry for entry in entries() if entry.name == own[0].draft)
    fit = [
        candidate
        for candidate in on_disk
        if family(candidate.name) == family(wanted.stem) and may_draft(candidate, facts)
    ]
    own_file = [one for one in fit if one.name.casefold() == wanted.stem.casefold()]
    return next(iter(own_file or sorted(fit, key=lambda one: one.size_bytes)), None)
