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
from nodes.mesh.ids import ModelName
from nodes.mesh.model_facts import ModelFacts
from nodes.mesh.resources import Device
from nodes.runtime.daemon_thread import in_daemon_thread
from nodes.runtime.home import Home
from nodes.runtime.resources import ResourceSampler

if TYPE_CHECKING:
    from models_registry.engine.probe import Engine

log = logging.getLogger("mesh.node")

RESOURCES_PERIOD_S = 2.0
"""How often memory and CPU are sampled: what a memory bar needs to look alive."""

MEMORY_MIN_BYTES = 64_000_000
"""Less than this serves no model: the engine's own process with the demo model takes it."""

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


async def resolve_models(options: Options, post: Post) -> list[ev.ModelRefused]:
    """Resolve every wished model in the order of asking; return the refusals, not yet posted."""
    from models_registry.demo import demo_path

    specs = options.models or (() if options.join else (str(demo_path()),))
    refusals = []
    for number, spec in enumerate(specs):
        if refused := await resolve_model(options, spec, post, first=number == 0):
            refusals.append(refused)
    return refusals


async def resolve_model(
    options: Options, spec: str, post: Post, *, first: bool = True
) -> ev.ModelRefused | None:
    """Resolve one model, downloading it where that is allowed, and post that it is wanted.

    Returns None, or the refusal: the caller posts it or ends the node.
    """
    from models_registry.gguf_header import BadModelFile
    from models_registry.hub_errors import DownloadFailed
    from models_registry.resolve import ModelNotFound

    loop = asyncio.get_running_loop()
    name = ModelName(model_stem(PurePosixPath(spec).name))

    def progressed(progress: Progress) -> None:
        event = ev.ModelResolving(name, progress.phase, progress.done_bytes, progress.total_bytes)
        loop.call_soon_threadsafe(post, event)

    allowed = first or options.serve_all
    post(ev.ModelResolving(name, "looking"))
    try:
        facts, draft = await in_daemon_thread(
            lambda: _resolve(options, spec, progressed, allowed), f"resolve {name}"
        )
    except (ModelNotFound, BadModelFile, DownloadFailed) as problem:
        return ev.ModelRefused(name, str(problem))
    post(ev.ModelWanted(facts, draft, asked_as=name))
    return None


def _resolve(
    options: Options, spec: str, progressed: OnProgress, allow_download: bool
) -> tuple[ModelFacts, ModelFacts | None]:
    from models_registry.gguf_header import read_facts
    from models_registry.resolve import resolve

    found = resolve(
        spec,
        models_dir=options.models_dir,
        on_progress=progressed,
        allow_download=allow_download,
    )
    draft = read_facts(options.draft) if options.draft else found.draft
    return found.facts, None if options.no_draft else draft
