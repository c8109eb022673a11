"""The node's periodic and one-time work beside the driver: samples, the engine, the models.

Each function is one task; blocking work runs in threads. Results are events for the driver.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from meshsite import settings
from meshsite.options import Options
from models_registry.progress import OnProgress, Progress
from models_registry.shards import model_stem
from nodes.mesh import events as ev
from nodes.mesh.engine_load import LoadReport
from nodes.mesh.gossip_events import LoadChanged
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.resources import Device
from nodes.runtime.daemon_thread import in_daemon_thread
from nodes.runtime.home import Home
from nodes.runtime.resources import ResourceSampler

if TYPE_CHECKING:
    from meshsite.peer_models import PeerModels
    from models_registry.engine.probe import Engine

log = logging.getLogger("mesh.node")

RESOURCES_PERIOD_S = 3.0
"""How often memory and CPU are sampled: what a memory bar needs to look alive."""

MEMORY_MIN_BYTES = 64_000_000
"""Less than this serves no model: the engine's own process with the demo model takes it."""

DISK_PERIOD_S = 20.0
"""How often the models folder is looked through: a file that was copied there counts soon."""

LOAD_PERIOD_S = 1.0
"""How often request rates are summed up."""

Post = Callable[[ev.Event], None]


def too_little_memory(offered_bytes: int) -> str | None:
    """Return why no model at all could be served with this much, or None."""
    if offered_bytes >= MEMORY_MIN_BYTES:
        return None
    return (
        f"This node could offer only {offered_bytes / 1e6:.0f} MB to models, and even the smallest "
        f"needs {MEMORY_MIN_BYTES / 1e6:.0f} MB. Raise --max-vram, free memory, or lift the limit "
        "that the container has."
    )


async def sample_resources(
    sampler: ResourceSampler, engine_pids: Callable[[], tuple[int, ...]], post: Post
) -> None:
    """Post a sample whenever it says something new."""
    last = None
    while True:
        found = sampler.sample(engine_pids())
        if found != last:
            post(ev.ResourcesSampled(found))
            last = found
        await asyncio.sleep(RESOURCES_PERIOD_S)


async def sample_load(
    samples: Callable[[float], tuple[ev.ServerLoadSampled, ...]],
    post: Callable[[ev.ServerLoadSampled], None],
) -> None:
    """Post what the engines do, when it changed."""
    last: dict[ModelName, ev.ServerLoadSampled] = {}
    while True:
        await asyncio.sleep(LOAD_PERIOD_S)
        for sample in samples(time.monotonic()):
            if last.get(sample.model) != sample:
                last[sample.model] = sample
                post(sample)


async def tell_load(report: LoadReport, post: Callable[[LoadChanged], None]) -> None:
    """Let gossip carry what the engines do, when there is something to say."""
    while True:
        await asyncio.sleep(LOAD_PERIOD_S)
        if (load := report.due(time.monotonic())) is not None:
            post(LoadChanged(load))


@dataclass(frozen=True, slots=True)
class EngineInUse:
    """The engine that this node runs, and the devices it listed at the start."""

    engine: "Engine"
    devices: tuple[Device, ...]


async def find_engine(options: Options, home: Home) -> EngineInUse | str:
    """Return the engine to use, or why there is none and what to do."""
    from models_registry.engine.devices import list_devices
    from models_registry.engine.faults import EngineFault
    from models_registry.engine.find import find

    def look() -> EngineInUse:
        engine = find(options.bin_dir, home.base, settings.SEARCH_PATH)
        return EngineInUse(engine, list_devices(engine))

    try:
        return await in_daemon_thread(look, "find engine")
    except EngineFault as fault:
        return str(fault)
    except OSError as error:
        return f"The engine could not be looked for ({error}). Name its folder with --bin-dir."


async def resolve_models(
    options: Options, post: Post, peers: "PeerModels | None"
) -> list[ev.ModelRefused]:
    """Resolve what this node is to serve itself; return the refusals, not yet posted.

    That is the first `--model`, or all of them with `--serve-all`; the rest is asked of the mesh.
    """
    from models_registry.demo import demo_path

    own = options.models if options.serve_all else options.models[:1]
    rest = options.models[len(own) :]
    if rest:
        names = await in_daemon_thread(
            lambda: tuple(model_id(options, s) for s in rest), "name models"
        )
        post(ev.ModelsAskedFor(names))
    specs = own or (() if options.join else (str(demo_path()),))
    refusals = []
    for spec in specs:
        if refused := await resolve_model(options, spec, post, peers):
            refusals.append(refused)
    return refusals


def model_id(options: Options, spec: str) -> ModelName:
    """Return the id that a model asked for has wherever it is served: the stem of its file."""
    from models_registry.catalogue import AmbiguousName, UnknownName, lookup
    from models_registry.gguf_header import BadModelFile
    from models_registry.hub_errors import DownloadFailed
    from models_registry.resolve import ModelNotFound

    try:
        return _resolve(options, spec, lambda progress: None, False)[0].name
    except (ModelNotFound, BadModelFile, DownloadFailed):
        pass
    try:
        return lookup(spec).stem
    except (UnknownName, AmbiguousName):
        return ModelName(model_stem(PurePosixPath(spec).name))


async def resolve_model(
    options: Options,
    spec: str,
    post: Post,
    peers: "PeerModels | None",
    *,
    download: bool = True,
    for_mesh: bool = False,
) -> ev.ModelRefused | None:
    """Resolve one model, fetching it where that is allowed, and post that it is wanted.

    From a member that has it, where `peers` knows one, else from the hub. `for_mesh`: the mesh asks,
    under the name `spec`; else the operator does. Returns None, or the refusal: the caller posts it or
    ends the node.
    """
    from models_registry.drafting import UnfitDraft, choose
    from models_registry.gguf_header import BadModelFile
    from models_registry.hub_errors import DownloadFailed
    from models_registry.resolve import ModelNotFound
    from models_registry.supervision.split_lane import SplitFault

    loop = asyncio.get_running_loop()
    name = ModelName(spec if for_mesh else model_stem(PurePosixPath(spec).name))

    def progressed(progress: Progress) -> None:
        event = ev.ModelResolving(name, progress.phase, progress.done_bytes, progress.total_bytes)
        loop.call_soon_threadsafe(post, event)

    must = not for_mesh and not options.serve_all

    def look(allow_download: bool) -> tuple[ModelFacts, ModelFacts | None]:
        facts, paired = _resolve(options, spec, progressed, allow_download)
        return facts, choose(facts, paired, options.draft, off=options.no_draft, must=must)

    async def looked(allow_download: bool) -> tuple[ModelFacts, ModelFacts | None]:
        return await in_daemon_thread(lambda: look(allow_download), f"resolve {name}")

    post(ev.ModelResolving(name, "looking"))
    try:
        try:
            facts, draft = await looked(download and peers is None)
        except ModelNotFound:
            if not download or peers is None:
                raise
            called = await in_daemon_thread(lambda: model_id(options, spec), f"name of {name}")
            await peers.bring(called, progressed)
            facts, draft = await looked(True)
    except (ModelNotFound, BadModelFile, DownloadFailed, UnfitDraft, SplitFault) as problem:
        return ev.ModelRefused(name, str(problem), for_mesh=for_mesh)
    post(ev.ModelWanted(facts, draft, asked_as=name, for_mesh=for_mesh))
    return None


async def scan_disk(options: Options, post: Post) -> None:
    """Post what is in the models folder whenever that changed, and once what could be downloaded."""
    from models_registry.catalogue import entries
    from models_registry.scan import scan

    known = {entry.stem: entry.size_bytes for entry in entries()}
    post(ev.CatalogueKnown(known))
    last = None
    while True:
        found = await in_daemon_thread(lambda: scan(options.models_dir).models, "scan models")
        if found != last:
            post(ev.DiskScanned(found))
            last = found
        await asyncio.sleep(DISK_PERIOD_S)


def _resolve(
    options: Options, spec: str, progressed: OnProgress, allow_download: bool
) -> tuple[ModelFacts, ModelFacts | None]:
    from models_registry.resolve import resolve

    found = resolve(
        spec,
        models_dir=options.models_dir,
        on_progress=progressed,
        allow_download=allow_download,
    )
    return found.facts, found.draft
