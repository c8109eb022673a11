"""Samples what this machine has: memory, processor, the engine's devices, GPUs that lie idle.

Decides one thing: how many bytes are offered. Devices' memory as the engine lists it, else 75 % of
the RAM that this process may use (a container's limit counts as its RAM); `--max-vram` only lowers.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from nodes.mesh.resources import Device, Resources
from nodes.runtime.gpu_matching import DetectedGpu, unusable_gpus
from nodes.runtime.gpus import detect_gpus
from nodes.runtime.memory_limits import cgroup_cpus, cgroup_memory

RAM_SHARE = 0.75
"""Of the RAM, what is offered to models; the rest is for the system and the other programs."""


def offered_bytes(
    devices: Sequence[Device], ram_total_bytes: int, max_vram_bytes: int | None
) -> int:
    """Return the memory offered to models, bytes; `max_vram_bytes` None: no cap."""
    own = (
        sum(device.total_bytes for device in devices)
        if devices
        else int(ram_total_bytes * RAM_SHARE)
    )
    return own if max_vram_bytes is None else max(0, min(own, max_vram_bytes))


class ResourceSampler:
    """Samples the machine; a sample takes about a millisecond."""

    def __init__(
        self,
        devices: Callable[[], tuple[Device, ...]],
        max_vram_bytes: int | None,
        *,
        detect: Callable[[], tuple[DetectedGpu, ...]] = detect_gpus,
        root: Path = Path("/"),
    ) -> None:
        """`devices` returns what the engine listed last, without asking it: it is called at each sample."""
        self._devices = devices
        self._max_vram_bytes = max_vram_bytes
        self._detect = detect
        self._root = root
        self._detected: tuple[DetectedGpu, ...] = ()
        self._self = psutil.Process()
        psutil.cpu_percent()  # The first call only remembers: the next one measures since then.

    def look_for_gpus(self) -> None:
        """Find the machine's GPUs; until then none is called unusable. Blocks for seconds: use a thread."""
        self._detected = self._detect()

    def sample(self, engine_pids: Iterable[int]) -> Resources:
        """Return one sample; an engine that has just ended counts nothing."""
        memory = psutil.virtual_memory()
        total, available = int(memory.total), int(memory.available)
        limit = cgroup_memory(self._root)
        if limit:
            total, available = min(total, limit.limit_bytes), min(available, limit.available_bytes)
        devices = self._devices()
        return Resources(
            offered_bytes=offered_bytes(devices, total, self._max_vram_bytes),
            ram_total_bytes=total,
            ram_available_bytes=available,
            cpu_count=self._cpu_count(),
            cpu_percent=psutil.cpu_percent(),
            process_rss_bytes=int(self._self.memory_info().rss),
            engine_rss_bytes=sum(_rss_bytes(pid) for pid in engine_pids),
            devices=devices,
            unusable=unusable_gpus(self._detected, devices),
        )

    def _cpu_count(self) -> int:
        """Return the CPUs that this process may run on, at least 1."""
        affinity = getattr(os, "sched_getaffinity", None)
        own = len(affinity(0)) if affinity else os.cpu_count() or 1
        return min(own, cgroup_cpus(self._root) or own)


def _rss_bytes(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0
