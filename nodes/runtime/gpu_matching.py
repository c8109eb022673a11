"""Which GPUs of the machine the installed engine cannot use, and what to install so that it can. Pure.

A GPU counts for the mesh only when the engine itself lists it; every other one is said loudly.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodes.mesh.resources import Device, UnusableGpu

GIB = 1024**3


class Vendor(StrEnum):
    """Who made a GPU: decides which engine build can use it."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"
    APPLE = "Apple"


@dataclass(frozen=True, slots=True)
class DetectedGpu:
    """A GPU that the system or its driver knows."""

    vendor: Vendor
    name: str
    """The driver's name of it, or empty: only its vendor is known."""
    memory_bytes: int | None = None
    """None: nobody told."""
    address: str = ""
    """The PCI address in lower case, ``0000:01:00.0``; empty when unknown."""
    driver: bool = True
    """Whether the vendor's own driver answered for it."""


_BACKENDS: tuple[tuple[str, Vendor], ...] = (
    ("cuda", Vendor.NVIDIA),
    ("rocm", Vendor.AMD),
    ("hip", Vendor.AMD),
    ("mtl", Vendor.APPLE),
    ("metal", Vendor.APPLE),
    ("sycl", Vendor.INTEL),
)
_BRANDS: tuple[tuple[re.Pattern[str], Vendor], ...] = (
    (re.compile(r"nvidia|geforce|quadro|tesla|\brtx\b|\bgtx\b", re.IGNORECASE), Vendor.NVIDIA),
    (re.compile(r"\bamd\b|radeon|\bradv\b|instinct", re.IGNORECASE), Vendor.AMD),
    (re.compile(r"intel|\barc\b", re.IGNORECASE), Vendor.INTEL),
    (re.compile(r"apple", re.IGNORECASE), Vendor.APPLE),
)
_BUILD = "then start the node with --bin-dir naming it"
_DEBIAN_VULKAN = "Debian's package libggml0-backend-vulkan"
_REMEDIES = {
    Vendor.NVIDIA: f"Install a llama.cpp built with CUDA (or Vulkan: {_DEBIAN_VULKAN}), {_BUILD}.",
    Vendor.AMD: (
        "Install a llama.cpp built with HIP (Debian's package libggml0-backend-hip) or Vulkan "
        f"({_DEBIAN_VULKAN}), {_BUILD}."
    ),
    Vendor.INTEL: (
        f"Install a llama.cpp built with Vulkan ({_DEBIAN_VULKAN}, with mesa-vulkan-drivers) "
        f"or SYCL, {_BUILD}."
    ),
    Vendor.APPLE: f"Install a llama.cpp built with Metal (brew install llama.cpp), {_BUILD}.",
}
_NO_DRIVER = "Install NVIDIA's driver (Debian's package nvidia-driver) first: it does not answer. "


def vendor_of(device: Device) -> Vendor | None:
    """Return who made the engine's device, by its backend or its name; None when neither tells."""
    name = device.name.casefold()
    by_backend = next((vendor for prefix, vendor in _BACKENDS if name.startswith(prefix)), None)
    return by_backend or next(
        (vendor for brand, vendor in _BRANDS if brand.search(device.description)), None
    )


def unusable_gpus(
    detected: Iterable[DetectedGpu], devices: Sequence[Device]
) -> tuple[UnusableGpu, ...]:
    """Return the detected GPUs that no listed device stands for, each with its remedy.

    Two backends may list one GPU (CUDA0 and Vulkan0), so each backend is matched by itself: by name
    first, then by vendor. A GPU that any backend lists is usable.
    """
    left = list(detected)
    usable: set[int] = set()
    for backend in {_backend(device) for device in devices}:
        free = dict(enumerate(left))
        mine = [device for device in devices if _backend(device) == backend]
        for matches in (_same_name, _same_vendor):
            for device in tuple(mine):
                found = next((index for index, gpu in free.items() if matches(gpu, device)), None)
                if found is not None:
                    usable.add(found)
                    del free[found]
                    mine.remove(device)
    return tuple(_unusable(gpu) for index, gpu in enumerate(left) if index not in usable)


def _backend(device: Device) -> str:
    return device.name.rstrip("0123456789").casefold()


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z0-9]+", text.casefold()))


def _same_name(gpu: DetectedGpu, device: Device) -> bool:
    """Return whether every word of the GPU's name stands in the device's description."""
    words = _words(gpu.name)
    return (
        bool(words)
        and vendor_of(device) in (gpu.vendor, None)
        and words <= _words(device.description)
    )


def _same_vendor(gpu: DetectedGpu, device: Device) -> bool:
    return vendor_of(device) is gpu.vendor


def _unusable(gpu: DetectedGpu) -> UnusableGpu:
    name = gpu.name or f"{gpu.vendor} GPU"
    size = f", {gpu.memory_bytes / GIB:.1f} GiB" if gpu.memory_bytes else ""
    place = f" at {gpu.address}" if gpu.address and not gpu.name else ""
    first = _NO_DRIVER if gpu.vendor is Vendor.NVIDIA and not gpu.driver else ""
    return UnusableGpu(f"{name}{size}{place}", first + _REMEDIES[gpu.vendor])


def merge(told: Iterable[DetectedGpu], on_bus: Iterable[DetectedGpu]) -> tuple[DetectedGpu, ...]:
    """Return each GPU once: what drivers and tools told, and what only the PCI bus shows.

    A tool that gives no address stands for as many GPUs of its vendor as it named.
    """
    named = list(told)
    known = {gpu.address for gpu in named if gpu.address}
    unplaced = Counter(gpu.vendor for gpu in named if not gpu.address)
    merged = list(named)
    for gpu in on_bus:
        if gpu.address in known:
            continue
        if unplaced[gpu.vendor]:
            unplaced[gpu.vendor] -= 1
            continue
        merged.append(gpu)
    return tuple(merged)
