"""Which GPUs this machine has, engine or not: NVML, vendors' tools and the PCI bus. Thin I/O.

Only to say which GPU is *not* used; what is offered comes from the engine's own list alone.
"""

import contextlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodes.runtime.gpu_matching import DetectedGpu, Vendor, merge

TOOL_TIMEOUT_S = 10.0
MAX_GPUS = 64
_PCI_VENDORS = {"0x10de": Vendor.NVIDIA, "0x1002": Vendor.AMD, "0x8086": Vendor.INTEL}
"""Display adapters of other vendors (servers' consoles, virtual machines) compute nothing."""
RunTool = Callable[[list[str]], str]


def detect_gpus(root: Path = Path("/"), run: RunTool | None = None) -> tuple[DetectedGpu, ...]:
    """Return the machine's GPUs, each once. Blocks for seconds where tools are slow: use a thread."""
    run_tool = run or _run
    told = [
        *_by_nvml(),
        *parse_rocm_smi(
            run_tool(
                ["rocm-smi", "--showproductname", "--showbus", "--showmeminfo", "vram", "--json"]
            )
        ),
    ]
    if platform.system() == "Darwin":
        told += parse_system_profiler(run_tool(["system_profiler", "SPDisplaysDataType", "-json"]))
    return merge(told, gpus_on_bus(root))[:MAX_GPUS]


def _run(argv: list[str]) -> str:
    """Return what the tool prints, or nothing when it is not there or fails."""
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=TOOL_TIMEOUT_S, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout


def _by_nvml() -> list[DetectedGpu]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # No NVIDIA driver here.
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            name, bus = pynvml.nvmlDeviceGetName(gpu), pynvml.nvmlDeviceGetPciInfo(gpu).busId
            memory = int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total)
            found.append(DetectedGpu(Vendor.NVIDIA, _text(name), memory, pci_address(_text(bus))))
    except pynvml.NVMLError:
        return found
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def pci_address(text: str) -> str:
    """Return the PCI address as the kernel writes it: NVML has eight digits of domain, rocm-smi capitals."""
    domain, _, rest = text.strip().casefold().partition(":")
    return f"{domain[-4:].rjust(4, '0')}:{rest}" if rest else ""


def parse_rocm_smi(output: str) -> list[DetectedGpu]:
    """Return the GPUs of ``rocm-smi --json``; the keys' wording changed between ROCm releases."""
    found = []
    for card in _json_object(output).values():
        if not isinstance(card, dict):
            continue
        named = {str(key).casefold(): str(value) for key, value in card.items()}
        name = named.get("card series") or named.get("card model") or ""
        memory = named.get("vram total memory (b)", "")
        bus = pci_address(named.get("pci bus", ""))
        if name or memory:
            found.append(
                DetectedGpu(Vendor.AMD, name, int(memory) if memory.isdecimal() else None, bus)
            )
    return found


def parse_system_profiler(output: str) -> list[DetectedGpu]:
    """Return the GPUs of ``system_profiler SPDisplaysDataType -json`` that Metal could use."""
    displays = _json_object(output).get("SPDisplaysDataType")
    found = []
    for card in displays if isinstance(displays, list) else []:
        name = str(card.get("sppci_model", "")) if isinstance(card, dict) else ""
        if name:
            # Intel and AMD GPUs of older Macs are used through Metal as well: the remedy is Apple's.
            found.append(DetectedGpu(Vendor.APPLE, name))
    return found


def _json_object(output: str) -> dict[str, Any]:
    try:
        read = json.loads(output)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def gpus_on_bus(root: Path = Path("/")) -> list[DetectedGpu]:
    """Return the GPUs that Linux shows as display adapters, whether or not a driver computes on them."""
    found: dict[str, DetectedGpu] = {}
    for card in sorted((root / "sys/class/drm").glob("card*/device")):
        try:
            vendor = _PCI_VENDORS.get((card / "vendor").read_text("ascii").strip())
            lines = (card / "uevent").read_text("ascii", "replace").splitlines()
        except OSError:
            continue
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
        address = facts.get("PCI_SLOT_NAME", "").casefold() or card.parent.name
        if vendor and address not in found:
            memory = _number(card / "mem_info_vram_total")
            computes = vendor is not Vendor.NVIDIA or facts.get("DRIVER") == "nvidia"
            found[address] = DetectedGpu(vendor, "", memory, address, driver=computes)
    return list(found.values())


def _number(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
