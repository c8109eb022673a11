"""Decides whether a file is a model that an engine could load, and states its facts: `read_facts`.

Looks at the file, its shards and a vision projector beside it, and reads headers only. What a header
says is `gguf_parse` and `gguf_facts`; which files belong together is `shards`.
"""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from models_registry import gguf_cache, gguf_facts
from models_registry.foreign import looks_like
from models_registry.gguf_parse import Header, HeaderFault, parse
from models_registry.shards import (
    ShardName,
    family,
    model_stem,
    names_projector,
    projector_family,
    shard_name,
)
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts

HEAD_BYTES = 4096
"""Enough to tell what a foreign file looks like."""
BESIDE_MAX = 512
"""Files of a folder that are looked at for a projector; beyond that the search ends."""
FINGERPRINT_DIGITS = 16


class BadModelFile(Exception):
    """A file that no engine should be started with. `str()` is the whole sentence for people."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} cannot be used: {reason}. ({path})")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    size_bytes: int
    header: Header


def read_facts(path: Path) -> ModelFacts:
    """Return what is known of the model in `path`; any shard of a set stands for the whole set.

    Raises:
        BadModelFile: missing, foreign, cut off, an incomplete set, or not a model by itself.
    """
    path = path.absolute()
    parts = _parts(path)
    first = parts[0]
    architecture = gguf_facts.text_of(first.header.values, "general.architecture")
    _require_model(first, parts, architecture)
    return _facts(parts, architecture)


def _facts(parts: list[_Part], architecture: str) -> ModelFacts:
    first = parts[0]
    values = first.header.values
    bytes_by_type: dict[str, int] = {}
    for part in parts:
        for name, count in part.header.bytes_by_type.items():
            bytes_by_type[name] = bytes_by_type.get(name, 0) + count
    cache = gguf_cache.cache_size(architecture, values)
    mmproj = projector_beside(first.path)
    return ModelFacts(
        name=ModelName(model_stem(first.path.name)),
        path=str(first.path),
        shards=tuple(str(part.path) for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        architecture=architecture,
        quantisation=gguf_facts.quantisation(first.header, bytes_by_type),
        parameters=sum(part.header.parameters for part in parts),
        layers=gguf_facts.number_of(values, f"{architecture}.block_count"),
        context_train=gguf_facts.number_of(values, f"{architecture}.context_length"),
        embedding_length=gguf_facts.number_of(values, f"{architecture}.embedding_length"),
        vocab_size=gguf_facts.vocabulary_size(values, architecture),
        kv_bytes_per_token=cache.per_token if cache else 0,
        kv_bytes_per_slot=cache.per_slot if cache else 0,
        capabilities=gguf_facts.capabilities(architecture, values, projector=mmproj is not None),
        chat_template=bool(gguf_facts.templates(values)),
        title=gguf_facts.clean_title(gguf_facts.text_of(values, "general.name")),
        mmproj_path=str(mmproj) if mmproj else None,
        mmproj_bytes=_size(mmproj) if mmproj else 0,
        fingerprint=_fingerprint(parts),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # gone since it was listed; the engine will say so


def _fingerprint(parts: list[_Part]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.header.digest}:{part.size_bytes};".encode())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]


def _require_model(first: _Part, parts: list[_Part], architecture: str) -> None:
    reason = gguf_facts.not_a_model(first.header.values)
    if reason is None and not architecture:
        reason = "its header names no architecture: it is not a language model, or its first part is damaged"
    if reason is None and not any(part.header.tensor_names for part in parts):
        reason = "it holds a vocabulary only, and no weights"
    if reason is not None:
        raise BadModelFile(first.path, reason)


def _parts(path: Path) -> list[_Part]:
    """Return the file, or all shards of its set in order, each with its header read and checked."""
    place = shard_name(path.name)
    if place is None:
        part = _read_part(path)
        count = gguf_facts.number_of(part.header.values, "split.count")
        if count > 1:
            number = gguf_facts.number_of(part.header.values, "split.no") + 1
            raise BadModelFile(
                path,
                f"it is part {number} of {count} under another name: the engine finds the other parts"
                f" by name, so call it STEM-{number:05d}-of-{count:05d}.gguf like its siblings",
            )
        return [part]
    return _shard_parts(path, place)


def _shard_parts(path: Path, place: ShardName) -> list[_Part]:
    paths = [path.with_name(place.file_name(number)) for number in range(1, place.count + 1)]
    missing = [candidate.name for candidate in paths if not candidate.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (
            f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        )
        raise BadModelFile(
            path,
            f"it is one of {place.count} parts and {shown} is not beside it: download the missing part",
        )
    parts = [_read_part(candidate) for candidate in paths]
    for number, part in enumerate(parts):
        _require_place(part, number, place.count)
    _require_one_set(parts)
    return parts


def _require_place(part: _Part, number: int, count: int) -> None:
    values = part.header.values
    said_count = gguf_facts.number_of(values, "split.count")
    said_number = gguf_facts.number_of(values, "split.no")
    if (said_number, said_count) != (number, count):
        raise BadModelFile(
            part.path,
            f"its name says part {number + 1} of {count}, its header part {said_number + 1} of"
            f" {max(said_count, 1)}: the parts are mixed up or renamed; download the set again",
        )


def _require_one_set(parts: list[_Part]) -> None:
    """Refuse parts of different sets: each would load, and the whole would not."""
    first = parts[0]
    expected = gguf_facts.number_of(first.header.values, "split.tensors.count")
    seen: set[str] = set()
    for part in parts:
        said = gguf_facts.number_of(part.header.values, "split.tensors.count")
        if said != expected or seen & part.header.tensor_names:
            raise BadModelFile(
                part.path,
                f"it does not belong to the same set as {first.path.name}: parts of two models, or of two"
                " quantisations, are mixed; download the set again",
            )
        seen |= part.header.tensor_names
    if expected and len(seen) != expected:
        raise BadModelFile(
            first.path,
            f"its parts hold {len(seen):,} tensors together and should hold {expected:,}: they are of"
            " different sets; download the set again",
        )


def _read_part(path: Path) -> _Part:
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise BadModelFile(path, "it is a folder: give the .gguf file inside it")
        if not stat.S_ISREG(info.st_mode):
            raise BadModelFile(path, "it is not a regular file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not head.startswith(b"GGUF"):
                raise BadModelFile(path, f"it is not a GGUF model file: it is {looks_like(head)}")
            file.seek(0)
            header = parse(file, info.st_size)
    except HeaderFault as fault:
        raise BadModelFile(path, str(fault)) from None
    except FileNotFoundError:
        raise BadModelFile(path, "there is no such file") from None
    except OSError as error:
        raise BadModelFile(path, f"it cannot be read ({error.strerror})") from None
    if header.needed_bytes > info.st_size:
        raise BadModelFile(
            path,
            f"it is cut off: its header needs {header.needed_bytes:,} bytes and the file has"
            f" {info.st_size:,} (a download that did not finish? download it again)",
        )
    return _Part(path, info.st_size, header)


def projector_beside(model: Path) -> Path | None:
    """Return the vision projector that belongs to a model: of its name, or the only one of a folder
    that holds no other model; None without one.
    """
    try:
        names = [
            entry.name for _, entry in zip(range(BESIDE_MAX), model.parent.iterdir(), strict=False)
        ]
    except OSError:
        return None
    files = sorted(name for name in names if name.lower().endswith(".gguf"))
    projectors = [name for name in files if names_projector(name)]
    own = family(model_stem(model.name))
    chosen = [
        name for name in projectors if projector_family(name) and projector_family(name) == own
    ]
    if not chosen and len(projectors) == 1:
        models = {model_stem(name) for name in files if not names_projector(name)}
        chosen = projectors if models == {model_stem(model.name)} else []
    return model.with_name(chosen[0]) if chosen else None
