"""What a node says of itself: the body that gossip carries, and how it becomes bytes.

Decides the compact form (MessagePack arrays, every count capped) and what a reader makes of a body
written by a newer version (trailing fields it does not know are ignored) or an older one (trailing
fields that are missing take their defaults). Knows nothing of signatures or tables. Source: spec,
Announcement.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from nodes.mesh import limits

Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
AddressText = Annotated[str, Meta(max_length=limits.ADDRESS_CHARS_MAX)]
IdBytes = Annotated[bytes, Meta(min_length=limits.ID_BYTES, max_length=limits.ID_BYTES)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Rate = Annotated[float, Meta(ge=0)]


MIB = 1 << 20


class ServedModelLine(msgspec.Struct, array_like=True, frozen=True):
    """One model that the node serves, is loading, or is draining."""

    name: Name
    state: Name
    """`routing.ModelState` by its value; an unknown word is kept and never routed to."""
    slots: Count = 0
    context: Count = 0
    capabilities: Annotated[tuple[Name, ...], Meta(max_length=limits.CAPABILITIES_MAX)] = ()
    cause: Name = ""
    """Why it is served here: `offers.Cause` by its value."""


class ModelOnDiskLine(msgspec.Struct, array_like=True, frozen=True):
    """One model that the node could serve from its own disk."""

    name: Name
    size_bytes: Count = 0
    fingerprint: Name = ""
    need_mib: Count = 0
    """The least memory with which this node would serve it, MiB rounded up: a third of the bytes that a
    figure in bytes takes; 0: not said (1.1 x the size is assumed)."""
    layers: Count = 0
    """Blocks of the model; 0: not said, so that it cannot be split."""


class RttLine(msgspec.Struct, array_like=True, frozen=True):
    """A round trip that the node has seen to another."""

    node_id: IdBytes
    rtt_ms: Rate


class RateLine(msgspec.Struct, array_like=True, frozen=True):
    """How much a model is asked for at this node, coarse: it changes the version."""

    name: Name
    requests_per_minute: Count
    busy_percent: Count = 0
    """Requests in work on this node's engine in percent of its slots; above 100 they queue."""


class SplitWorkerLine(msgspec.Struct, array_like=True, frozen=True):
    """One worker of a split."""

    node_id: IdBytes
    layers: Count


class SplitLine(msgspec.Struct, array_like=True, frozen=True):
    """A split that this node hosts: its workers obey the highest term."""

    model: Name
    term: Count
    workers: Annotated[tuple[SplitWorkerLine, ...], Meta(max_length=limits.SPLIT_WORKERS_MAX)] = ()


class WorkLine(msgspec.Struct, array_like=True, frozen=True):
    """What this node lends to a split's host."""

    host: IdBytes
    model: Name
    term: Count
    state: Name
    """``starting`` or ``ready``: its rpc-server runs and waits for the host."""
    rpc_port: Count = 0
    """Where its rpc-server listens on its own loopback: what the host asks the lane for."""


class Announcement(msgspec.Struct, array_like=True, frozen=True):
    """All that a node says of itself. New fields are appended, with defaults; none is ever removed."""

    name: Name = ""
    addresses: Annotated[tuple[AddressText, ...], Meta(max_length=limits.ADDRESSES_MAX)] = ()
    role: Name = "standby"
    """``host``, ``worker`` or ``standby``; clients do not gossip."""
    software: Name = ""
    memory_bytes: Count = 0
    serving: Annotated[tuple[ServedModelLine, ...], Meta(max_length=limits.SERVING_MAX)] = ()
    on_disk: Annotated[tuple[ModelOnDiskLine, ...], Meta(max_length=limits.MODELS_ON_DISK_MAX)] = ()
    wanted: Annotated[tuple[Name, ...], Meta(max_length=limits.MODELS_WANTED_MAX)] = ()
    force_split: bool = False
    rates: Annotated[tuple[RateLine, ...], Meta(max_length=limits.RATES_MAX)] = ()
    rtts: Annotated[tuple[RttLine, ...], Meta(max_length=limits.RTTS_MAX)] = ()
    rpc_version: Name = ""
    engine: Name = ""
    """The engine's version; empty: this node has none and can serve nothing."""
    splits: Annotated[tuple[SplitLine, ...], Meta(max_length=limits.SPLITS_MAX)] = ()
    works: Annotated[tuple[WorkLine, ...], Meta(max_length=limits.SPLITS_MAX)] = ()
