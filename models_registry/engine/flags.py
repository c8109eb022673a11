"""Which options a llama.cpp build has, and how it spells them. Pure: reads `--help` texts.

llama.cpp renames options between builds and exits with 1 on one that it does not know, so nothing
is ever passed that its own help does not list. An option that help lists only to say that it "has
been removed" counts as absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_REMOVED = "has been removed"
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")
_SEMANTIC = re.compile(r"version:\s*v?(\d+\.\d+(?:\.\d+)*)(?:\s*\(build\s+(\d+))?")
_NUMBERED = re.compile(r"version:\s*b?(\d+)\b")


@dataclass(frozen=True, slots=True)
class EngineFlags:
    """The spelling of each option in this build; None (or an empty tuple): the build lacks it."""

    alias: str | None = None
    threads: str | None = None
    parallel: str | None = None
    batch: str | None = None
    ubatch: str | None = None
    metrics: str | None = None
    cache_ram: str | None = None
    slots: str | None = None
    props: str | None = None
    jinja: str | None = None
    no_ui: str | None = None
    no_mmap: tuple[str, ...] = ()
    """The whole argument: ``("--no-mmap",)`` or ``("-lm", "none")``."""
    offline: str | None = None
    embeddings: str | None = None
    pooling: str | None = None
    mmproj: str | None = None
    no_mmproj_offload: str | None = None
    device: str | None = None
    list_devices: str | None = None
    gpu_layers: str | None = None
    tensor_split: str | None = None
    fit: str | None = None
    rpc: str | None = None
    draft_model: str | None = None
    draft_max: str | None = None
    draft_gpu_layers: str | None = None
    spec_type: tuple[str, ...] = ()
    """The whole argument that turns a draft model on; empty: ``-md`` alone does it."""
    rpc_host: str | None = None
    """This and the next four are the rpc-server's own options; all None without one."""
    rpc_port: str | None = None
    rpc_threads: str | None = None
    rpc_device: str | None = None
    rpc_cache: str | None = None


def parse_flags(server_help: str, rpc_help: str | None) -> EngineFlags:
    """Return what the two help texts offer; `rpc_help` is None where there is no rpc-server."""
    server = _options(server_help)
    rpc = _options(rpc_help or "")
    return EngineFlags(
        alias=_first(server, "--alias", "-a"),
        threads=_first(server, "-t", "--threads"),
        parallel=_first(server, "-np", "--parallel"),
        batch=_first(server, "-b", "--batch-size"),
        ubatch=_first(server, "-ub", "--ubatch-size"),
        metrics=_first(server, "--metrics"),
        cache_ram=_first(server, "--cache-ram"),
        slots=_first(server, "--slots"),
        props=_first(server, "--props"),
        jinja=_first(server, "--jinja"),
        no_ui=_first(server, "--no-ui", "--no-webui"),
        no_mmap=_no_mmap(server),
        offline=_first(server, "--offline"),
        embeddings=_first(server, "--embeddings", "--embedding"),
        pooling=_first(server, "--pooling"),
        mmproj=_first(server, "--mmproj"),
        no_mmproj_offload=_first(server, "--no-mmproj-offload"),
        device=_first(server, "--device", "-dev"),
        list_devices=_first(server, "--list-devices"),
        gpu_layers=_first(server, "-ngl", "--n-gpu-layers", "--gpu-layers"),
        tensor_split=_first(server, "--tensor-split", "-ts"),
        fit=_first(server, "--fit", "-fit"),
        rpc=_first(server, "--rpc"),
        draft_model=_first(server, "-md", "--model-draft", "--spec-draft-model"),
        draft_max=_first(server, "--spec-draft-n-max", "--draft-max", "--draft-n", "--draft"),
        draft_gpu_layers=_first(server, "-ngld", "--n-gpu-layers-draft", "--gpu-layers-draft"),
        spec_type=_spec_type(server),
        rpc_host=_first(rpc, "-H", "--host"),
        rpc_port=_first(rpc, "-p", "--port"),
        rpc_threads=_first(rpc, "-t", "--threads"),
        rpc_device=_first(rpc, "-d", "--device"),
        rpc_cache=_first(rpc, "-c", "--cache"),
    )


def parse_version(text: str) -> tuple[str, str]:
    """Return (version, build) of a `--version` output; both empty when it is not llama.cpp's.

    Builds before version numbers say ``version: 6123 (ab12cd3)``: their version is ``b6123``.
    """
    if match := _SEMANTIC.search(text):
        return match[1], match[2] or ""
    if match := _NUMBERED.search(text):
        return f"b{match[1]}", match[1]
    return "", ""


def is_server_help(text: str) -> bool:
    """Return whether this is the help of a llama-server at all."""
    options = _options(text)
    return {"--port", "--host", "--model"} <= options.keys()


def _options(text: str) -> dict[str, str]:
    """Map each option to its paragraph of the help, leaving out the removed ones."""
    paragraphs: list[list[str]] = []
    for line in text.splitlines():
        if line.lstrip().startswith("-") and len(line) - len(line.lstrip()) <= 4:
            paragraphs.append([line])
        elif paragraphs:
            paragraphs[-1].append(line)
    found: dict[str, str] = {}
    for paragraph in paragraphs:
        whole = "\n".join(paragraph)
        if _REMOVED in whole:
            continue
        # Names end where two spaces begin the description; a default such as "(-lv N)" is no option.
        head = re.split(r"(?<=\S)(?<!,)\s{2,}", paragraph[0].strip(), maxsplit=1)[0]
        for option in _OPTION.findall(head):
            found.setdefault(option, whole)
    return found


def _first(options: Mapping[str, str], *spellings: str) -> str | None:
    return next((spelling for spelling in spellings if spelling in options), None)


def _no_mmap(options: Mapping[str, str]) -> tuple[str, ...]:
    if "--no-mmap" in options:
        return ("--no-mmap",)
    mode = _first(options, "-lm", "--load-mode")
    if mode is not None and re.search(r"-\s*none\b", options[mode]):
        return (mode, "none")
    return ()


def _spec_type(options: Mapping[str, str]) -> tuple[str, ...]:
    if "--spec-type" in options and "draft-simple" in options["--spec-type"]:
        return ("--spec-type", "draft-simple")
    return ()
