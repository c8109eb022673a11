"""Which GPU backends an installed engine should get. The decision is pure; `seen` only looks.

Sources: PCI class 0x03 (display controllers) and vendor ids in Linux's sysfs; the Vulkan loader's
folders for drivers (ICD manifests).
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
_ICD_FOLDERS = ("/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")


class Backend(StrEnum):
    """A backend of ggml that Debian packages apart."""

    VULKAN = "vulkan"
    HIP = "hip"


@dataclass(frozen=True, slots=True)
class GpusSeen:
    """What of GPUs and their drivers is visible to this user."""

    vendors: frozenset[int]
    """PCI vendor ids of the display controllers."""
    vulkan_driver: bool
    """Some Vulkan driver is installed on the machine."""
    kfd: bool
    """AMD's compute device is there."""


def backends(seen: GpusSeen) -> tuple[Backend, ...]:
    """Return the backends to install; empty: the CPU alone, which is never wrong.

    Vulkan (6 MB) serves all three makers where their driver is installed. HIP (460 MB) only where
    AMD's compute device is there and no Vulkan driver is. Virtual display adapters get none.
    """
    if not seen.vendors & {NVIDIA, AMD, INTEL}:
        return ()
    if seen.vulkan_driver:
        return (Backend.VULKAN,)
    if AMD in seen.vendors and seen.kfd:
        return (Backend.HIP,)
    return ()


def seen(root: Path = Path("/")) -> GpusSeen:
    """Return what this machine shows under `root`; nothing where there is no sysfs."""
    vendors = set()
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            if int((device / "class").read_text(), 16) >> 16 == 0x03:
                vendors.add(int((device / "vendor").read_text(), 16))
        except (OSError, ValueError):
            continue
    drivers = (
        path
        for folder in _ICD_FOLDERS
        for path in (root / folder.lstrip("/")).glob("*.json")
        # Mesa's software renderer is a CPU in disguise, slower than the CPU backend.
        if not path.name.startswith("lvp_")
    )
    return GpusSeen(frozenset(vendors), any(drivers), (root / "dev/kfd").exists())
