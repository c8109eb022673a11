"""The engine's command line, as a pure function of the plan and of what this build has.

Knows no file, no clock and no process. Never passes an option that the build lacks (it would exit
with 1). Sources: llama-server's README and `--help`, builds 0.5.0 and 0.7.0.
"""

import re
from collections.abc import Mapping, Sequence

from models_registry.engine.probe import Engine
from nodes.mesh.model_facts import Capability
from nodes.mesh.plans import ServerPlan, SplitPlan

LOOPBACK = "127.0.0.1"
"""The engine has no useful authentication, the rpc-server none at all."""
ALL_LAYERS = "99"
"""More than any model has: every layer goes to the devices, none stays on the host's own CPU."""
EMBEDDING_BATCH_MAX = 2048
"""Tokens of one embedding input: it must fit one physical batch, whose buffers grow with it."""
PROMPT_CACHE_MIB = 512
"""RAM for prompts of conversations that left their slot. The engine's own default is 8 GiB, on top of
what a model was planned with: more than a small machine has."""
CHAT_AND_EMBEDDINGS_SINCE = (0, 7)
"""The first version tried that answers chat with `--embeddings` on; builds of 2025 refuse it."""
CHAT_AND_EMBEDDINGS_SINCE_BUILD = 11669


class Unsupported(Exception):
    """The plan wants what this build lacks; `str()` says what, and what to do. Handled by the supervisor."""


def threads_for(cpu_count: int) -> int:
    """Return the engine's threads for a machine of `cpu_count` logical CPUs; at least 1.

    One CPU is left to the node, the proxy and the rpc-server: the engine's threads spin at a barrier
    after every operation, so one that is not scheduled stalls all (on 2 CPUs, 2 threads are slower
    and unsteady). Beyond 16, memory bandwidth and not cores bounds the tokens per second.
    """
    return max(1, min(cpu_count - 1, 16))


def server_argv(
    engine: Engine,
    plan: ServerPlan,
    *,
    port: int,
    threads: int,
    rpc: Sequence[str] = (),
    has_devices: bool = False,
) -> list[str]:
    """Return the llama-server command for `plan`; `rpc` are ``host:port`` in device order.

    That is: a split's workers first, in the plan's order, then this host's own rpc-server where
    `plan.rpc_self` is set. `has_devices`: the engine lists devices of this machine's own.

    Raises:
        Unsupported: the plan needs an option that this build lacks.
    """
    flags = engine.flags
    argv = [engine.facts.server_path, "-m", plan.model.path]
    argv += ["--host", LOOPBACK, "--port", str(port), "-c", str(plan.context * plan.parallel)]
    argv += _with(flags.parallel, str(plan.parallel)) + _with(flags.threads, str(threads))
    argv += _with(flags.alias, plan.name) + _with(flags.cache_ram, str(PROMPT_CACHE_MIB))
    for switch in (flags.metrics, flags.slots, flags.jinja, flags.no_ui, flags.offline):
        argv += _with(switch)
    argv += _embeddings(engine, plan)
    if plan.model.mmproj_path is not None:
        argv += [_need(engine, flags.mmproj, "--mmproj", "images"), plan.model.mmproj_path]
        if plan.split is not None:
            # It would go to the first device, a worker, whose memory nobody counted for it.
            argv += _with(flags.no_mmproj_offload)
    argv += _draft(engine, plan)
    argv += _placement(engine, plan, rpc, has_devices)
    return argv


def layer_counts(split: SplitPlan) -> tuple[int, ...]:
    """Return ``--tensor-split`` of a split: whole layers for each device, the workers' first.

    llama.cpp puts layer i of n + 1, the output being the last, on the first device whose share of the
    sum so far exceeds i / (n + 1). So counts that add up to n + 1 are obeyed exactly, and the output
    layer, one more on the last device, is the host's.
    """
    counts = [seat.layers for seat in split.workers] + list(split.host_layers)
    counts[-1] += 1
    return tuple(counts)


def rpc_argv(engine: Engine, *, port: int, threads: int, device: str | None = None) -> list[str]:
    """Return the command of an own rpc-server on loopback; `device` None: its own choice, which is all.

    Raises:
        Unsupported: this engine came without one.
    """
    flags = engine.flags
    if engine.facts.rpc_server_path is None:
        raise Unsupported(
            f"The engine {engine.facts.version} at {engine.facts.server_path} has no ggml-rpc-server: it "
            "serves alone but cannot take part in a split. Run `mesh-llm engine install`."
        )
    host = _need(engine, flags.rpc_host, "--host", "the rpc-server")
    at = _need(engine, flags.rpc_port, "--port", "the rpc-server")
    argv = [engine.facts.rpc_server_path, host, LOOPBACK, at, str(port)]
    if device is not None:
        argv += _with(flags.rpc_device, device)
    return argv + _with(flags.rpc_threads, str(threads)) + _with(flags.rpc_cache)


def engine_env(base: Mapping[str, str], *, cache_dir: str | None = None) -> dict[str, str]:
    """Return the environment of an engine process, made from the node's own `base`.

    The engine takes every option from ``LLAMA_ARG_*`` too, and an API key from ``LLAMA_API_KEY``: what
    the user has set there for other uses would change or lock ours. Tokens are not the engine's
    business, and it downloads nothing. `cache_dir` holds the tensors that an rpc-server keeps; None:
    the engine's own default.
    """
    secret = (
        "LLAMA_API_KEY",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "MESH_LLM_API_KEY",
        "MESH_LLM_JOIN",
        "DATABASE_URL",
        "CHANNEL_LAYER_URL",
    )
    env = {k: v for k, v in base.items() if not k.startswith("LLAMA_ARG_") and k not in secret}
    # A lost rpc-server aborts the engine; without the backtrace it is gone in 9 ms, not 700.
    env["GGML_NO_BACKTRACE"] = "1"
    env["HF_HUB_OFFLINE"] = "1"
    if cache_dir is not None:
        env["LLAMA_CACHE"] = cache_dir
    return env


def embeds_beside_chat(engine: Engine) -> bool:
    """Return whether this build still answers chat when embeddings are switched on."""
    if engine.flags.embeddings is None or engine.flags.pooling is None:
        return False
    if re.fullmatch(r"\d+(\.\d+)+", engine.facts.version):
        version = tuple(int(part) for part in engine.facts.version.split("."))
        return version[: len(CHAT_AND_EMBEDDINGS_SINCE)] >= CHAT_AND_EMBEDDINGS_SINCE
    return (
        engine.facts.build.isdigit() and int(engine.facts.build) >= CHAT_AND_EMBEDDINGS_SINCE_BUILD
    )


def _embeddings(engine: Engine, plan: ServerPlan) -> list[str]:
    flags, model = engine.flags, plan.model
    only = Capability.EMBEDDINGS in model.capabilities and Capability.CHAT not in model.capabilities
    if only:
        argv = [_need(engine, flags.embeddings, "--embeddings", "embeddings")]
        # The header's own pooling is the one the model was trained with; mean is the usual one.
        argv += [] if model.pooling else _with(flags.pooling, "mean")
        batch = str(min(plan.context, EMBEDDING_BATCH_MAX))
        return argv + _with(flags.batch, batch) + _with(flags.ubatch, batch)
    if model.mmproj_path is None and embeds_beside_chat(engine):
        # Same text and logprobs as without, at the same speed (0.7.0, with and without a draft).
        # Not tried with a vision projector, so not risked there.
        argv = _with(flags.embeddings)
        return argv + ([] if model.pooling else _with(flags.pooling, "mean"))
    return []


def _draft(engine: Engine, plan: ServerPlan) -> list[str]:
    if plan.draft is None:
        return []
    flags = engine.flags
    argv = [_need(engine, flags.draft_model, "-md", "a draft model"), plan.draft.path]
    return argv + list(flags.spec_type) + _with(flags.draft_max, str(plan.draft_max))


def _placement(
    engine: Engine, plan: ServerPlan, rpc: Sequence[str], has_devices: bool
) -> list[str]:
    flags = engine.flags
    argv: list[str] = []
    if rpc:
        argv += [_need(engine, flags.rpc, "--rpc", "a split over machines"), ",".join(rpc)]
    device = plan.device if plan.split is None else _split_devices(plan, len(rpc), has_devices)
    if device is not None:
        # After --rpc: only then the engine knows the names of those devices.
        argv += [_need(engine, flags.device, "--device", "the choice of a device"), device]
    if rpc:
        argv += [_need(engine, flags.gpu_layers, "-ngl", "a split over machines"), ALL_LAYERS]
        if plan.draft is not None:
            # The draft is small and asked for every token: it stays on the host, not over the wire.
            argv += _with(flags.draft_gpu_layers, "0")
    ratios = layer_counts(plan.split) if plan.split is not None else plan.tensor_split
    if ratios is not None:
        shares = ",".join(f"{share:g}" for share in ratios)
        argv += [_need(engine, flags.tensor_split, "--tensor-split", "a given split"), shares]
    if plan.split is not None:
        # Placed already; the engine's own fitting would reach every worker twice as often.
        argv += [flags.fit, "off"] if flags.fit is not None else []
    return argv


def _split_devices(plan: ServerPlan, rpc_count: int, has_devices: bool) -> str | None:
    """Return ``--device`` of a split, or None: then the engine takes the workers and all of its own.

    The rpc-servers must be named with the operator's choice; and where an own rpc-server carries the
    host's part, the devices behind it are not to be used a second time.
    """
    remote = [f"RPC{number}" for number in range(rpc_count)]
    if plan.rpc_self:
        return ",".join(remote) if has_devices else None
    return ",".join([*remote, plan.device]) if plan.device is not None else None


def _with(flag: str | None, *values: str) -> list[str]:
    """Return the option with its values, or nothing where the build lacks it."""
    return [] if flag is None else [flag, *values]


def _need(engine: Engine, flag: str | None, usual: str, purpose: str) -> str:
    if flag is None:
        raise Unsupported(
            f"The engine {engine.facts.version} at {engine.facts.server_path} has no {usual}, which "
            f"{purpose} needs. Run `mesh-llm engine install --force` for a newer one."
        )
    return flag
