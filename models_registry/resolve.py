"""Decides which file a person means by `--model X`, and brings it onto the disk if it must.

In this order: a path; a stem in the models folder; a catalogue name, whose file is taken from the
models folder if it is there and downloaded otherwise; `org/repo/file.gguf` on the hub.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models_registry.catalogue import (
    AmbiguousName,
    Entry,
    UnknownName,
    draft_for,
    entries,
    lookup,
    near_names,
)
from models_registry.download import fetch, split_spec
from models_registry.gguf_header import BadModelFile, read_facts
from models_registry.hub_errors import DownloadFailed
from models_registry.progress import OnProgress, Progress
from models_registry.scan import Scan, scan
from models_registry.shards import family, model_stem
from nodes.mesh.model_facts import ModelFacts

__all__ = [
    "BadModelFile",
    "DownloadFailed",
    "ModelNotFound",
    "Progress",
    "ResolvedModel",
    "resolve",
]

DEMO_NAME = "demo"
"""What people may type for the model that a node serves by itself."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on disk whose header was read."""

    facts: ModelFacts
    draft: ModelFacts | None
    """The catalogue's draft model, when its file is on disk."""


class ModelNotFound(Exception):
    """No such model. `str()` is the whole sentence, with near misses and what to do."""

    def __init__(self, spec: str, sentence: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.spec = spec
        self.near = near


def resolve(
    spec: str, *, models_dir: Path, on_progress: OnProgress, allow_download: bool = True
) -> ResolvedModel:
    """Return the model that `spec` means, downloaded if need be. Blocks: to be called from a thread.

    Raises:
        ModelNotFound: nothing of that name, or several; or it is not on disk and may not be downloaded.
        BadModelFile: it is there and cannot be used.
        DownloadFailed: it exists on the hub, or should, and could not be fetched.
    """
    on_progress(Progress(model_stem(PurePosixPath(spec).name), "looking"))
    path = _as_path(spec)
    found = scan(models_dir)
    if path is not None:
        facts = read_facts(path)
    else:
        facts = _on_disk(spec, found) or _from_hub(
            spec, found, models_dir, on_progress, allow_download
        )
    return ResolvedModel(facts, draft_for(facts, found.models))


def _as_path(spec: str) -> Path | None:
    """Return the path that a spec is, or None when it is a name."""
    if spec == DEMO_NAME:
        from models_registry.demo import demo_path

        return demo_path()
    path = Path(spec).expanduser()
    if path.is_file():
        return path
    looks_like_path = spec.startswith(("/", "./", "../", "~"))
    if looks_like_path or ("/" in spec and path.is_dir()):
        return path  # read_facts says what is wrong with it
    return None


def _on_disk(spec: str, found: Scan) -> ModelFacts | None:
    """Return the model of a stem: exact, then without case, then the only one that begins so; or None.

    Raises BadModelFile when the file of exactly that stem is there and broken: going on to download it
    would hide the reason.
    """
    stem = model_stem(spec)
    folded = stem.casefold()
    for bad in found.bad:
        if model_stem(bad.path.name).casefold() == folded:
            raise bad
    exact = [facts for facts in found.models if facts.name == stem]
    same = exact or [facts for facts in found.models if facts.name.casefold() == folded]
    if same:
        return same[0]
    listed = [
        entry for entry in entries() if folded in (entry.name.casefold(), entry.stem.casefold())
    ]
    if listed:
        return _same_model(listed[0], found)
    begins = [facts for facts in found.models if facts.name.casefold().startswith(folded)]
    if len(begins) > 1:
        names = tuple(str(facts.name) for facts in begins)
        raise ModelNotFound(
            spec, f"{spec!r} could be any of {', '.join(names)}: give more of the name", names
        )
    return begins[0] if begins else None


def _same_model(entry: Entry, found: Scan) -> ModelFacts | None:
    """Return a catalogue's model from disk: its own file, else the same model in another quantisation."""
    own = [facts for facts in found.models if facts.name.casefold() == entry.stem.casefold()]
    other = [facts for facts in found.models if family(facts.name) == family(entry.stem)]
    return next(iter(own or other), None)


def _from_hub(
    spec: str, found: Scan, models_dir: Path, on_progress: OnProgress, allow_download: bool
) -> ModelFacts:
    entry = _entry(spec, found, models_dir)
    repo_and_file = (entry.repo, entry.file) if entry else split_spec(spec)
    assert repo_and_file is not None
    repo, file = repo_and_file
    stem = model_stem(PurePosixPath(file).name)
    there = [facts for facts in found.models if facts.name.casefold() == stem.casefold()]
    if there:
        return there[0]
    for bad in found.bad:
        if model_stem(bad.path.name).casefold() == stem.casefold():
            raise bad
    if not allow_download:
        raise ModelNotFound(
            spec,
            f"{stem} is not in {models_dir}: fetch it with `mesh-llm download {spec}`",
            (stem,),
        )
    _make_models_dir(models_dir)
    return read_facts(
        fetch(repo, file, models_dir, on_progress, mmproj=entry.mmproj if entry else None)
    )


def _make_models_dir(models_dir: Path) -> None:
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadFailed(
            f"the models folder {models_dir} cannot be made ({error.strerror}): choose another one"
        ) from None


def _entry(spec: str, found: Scan, models_dir: Path) -> Entry | None:
    """Return the catalogue's entry, or None for a well-formed ``org/repo/file.gguf``."""
    as_hub = split_spec(spec)
    try:
        return lookup(spec)
    except AmbiguousName as ambiguous:
        raise ModelNotFound(spec, f"{ambiguous}.", ambiguous.choices) from None
    except UnknownName:
        if as_hub:
            return next(
                (entry for entry in entries() if entry.spec.casefold() == spec.casefold()), None
            )
    names = [str(facts.name) for facts in found.models] + [entry.name for entry in entries()]
    near = near_names(spec, names)
    meant = f" Did you mean {', '.join(near)}?" if near else ""
    raise ModelNotFound(
        spec,
        f"there is no model {spec!r}: no file of that path, none of that name in {models_dir}, none in the"
        f" catalogue.{meant} `mesh-llm models` lists what there is; a model of the hub is given as"
        " org/repo/file.gguf.",
        near,
    )
