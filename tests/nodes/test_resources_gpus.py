"""Which GPUs the engine cannot use, from what drivers, tools and the bus tell. No GPU is needed here."""

import json
from pathlib import Path

import pytest

from nodes.mesh.resources import Device
from nodes.runtime.gpu_matching import DetectedGpu, Vendor, merge, unusable_gpus
from nodes.runtime.gpus import (
    detect_gpus,
    gpus_on_bus,
    parse_rocm_smi,
    parse_system_profiler,
    pci_address,
)

GIB = 1024**3
RTX = DetectedGpu(Vendor.NVIDIA, "NVIDIA GeForce RTX 4090", 24 * GIB, "0000:01:00.0")
RADEON = DetectedGpu(Vendor.AMD, "Radeon RX 7900 XTX", 24 * GIB, "0000:03:00.0")
IRIS = DetectedGpu(Vendor.INTEL, "", None, "0000:00:02.0")


def device(name: str, description: str) -> Device:
    return Device(name, description, 8 * GIB, 8 * GIB)


CUDA_RTX = device("CUDA0", "NVIDIA GeForce RTX 4090")
VULKAN_RTX = device("Vulkan0", "NVIDIA GeForce RTX 4090")
VULKAN_RADEON = device("Vulkan1", "AMD Radeon RX 7900 XTX (RADV NAVI31)")
ROCM_RADEON = device("ROCm0", "AMD Radeon RX 7900 XTX")
VULKAN_IRIS = device("Vulkan0", "Intel(R) UHD Graphics (TGL GT1)")


@pytest.mark.parametrize(
    ("detected", "devices", "idle"),
    [
        ((), (), ()),
        ((), (CUDA_RTX,), ()),
        ((RTX,), (CUDA_RTX,), ()),
        ((RTX,), (VULKAN_RTX, CUDA_RTX), ()),
        ((RTX,), (), (RTX,)),
        ((RTX, RTX), (CUDA_RTX,), (RTX,)),
        ((RTX, RTX), (CUDA_RTX, VULKAN_RTX), (RTX,)),
        ((RTX, RADEON), (CUDA_RTX,), (RADEON,)),
        ((RTX, RADEON), (VULKAN_RTX, VULKAN_RADEON), ()),
        ((RADEON,), (ROCM_RADEON,), ()),
        ((IRIS, RTX), (CUDA_RTX,), (IRIS,)),
        ((IRIS, RTX), (VULKAN_IRIS,), (RTX,)),
        ((DetectedGpu(Vendor.APPLE, "Apple M2"),), (device("MTL0", "Apple M2"),), ()),
        ((RTX,), (device("RPC0", "127.0.0.1:50052"),), (RTX,)),
    ],
)
def test_gpus_that_no_listed_device_stands_for(
    detected: tuple[DetectedGpu, ...], devices: tuple[Device, ...], idle: tuple[DetectedGpu, ...]
) -> None:
    said = unusable_gpus(detected, devices)
    assert len(said) == len(idle)
    for gpu, expected in zip(said, idle, strict=True):
        assert (expected.name or expected.vendor.value) in gpu.description


def test_named_gpu_is_matched_before_another_of_its_vendor() -> None:
    older = DetectedGpu(Vendor.NVIDIA, "NVIDIA GeForce GTX 1060", 6 * GIB, "0000:02:00.0")
    (idle,) = unusable_gpus((older, RTX), (CUDA_RTX,))
    assert "GTX 1060" in idle.description


@pytest.mark.parametrize(
    ("vendor", "words"),
    [
        (Vendor.NVIDIA, "CUDA"),
        (Vendor.AMD, "libggml0-backend-hip"),
        (Vendor.INTEL, "libggml0-backend-vulkan"),
        (Vendor.APPLE, "Metal"),
    ],
)
def test_remedy_names_what_to_install(vendor: Vendor, words: str) -> None:
    (idle,) = unusable_gpus((DetectedGpu(vendor, "x"),), ())
    assert words in idle.remedy and "--bin-dir" in idle.remedy


def test_nvidia_gpu_without_its_driver_is_told_to_get_the_driver_first() -> None:
    (idle,) = unusable_gpus(
        (DetectedGpu(Vendor.NVIDIA, "", None, "0000:01:00.0", driver=False),), ()
    )
    assert idle.description == "NVIDIA GPU at 0000:01:00.0"
    assert idle.remedy.startswith("Install NVIDIA's driver")


def test_gpu_that_driver_and_bus_show_is_one() -> None:
    on_bus = [DetectedGpu(Vendor.NVIDIA, "", None, "0000:01:00.0"), IRIS]
    assert merge([RTX], on_bus) == (RTX, IRIS)
    unplaced = DetectedGpu(Vendor.AMD, "Radeon")
    second = DetectedGpu(Vendor.AMD, "", None, "0000:05:00.0")
    assert merge([unplaced], [DetectedGpu(Vendor.AMD, "", None, "0000:03:00.0"), second]) == (
        unplaced,
        second,
    )


def test_addresses_are_written_as_the_kernel_does() -> None:
    assert pci_address("00000000:01:00.0") == "0000:01:00.0"
    assert pci_address("0000:0B:00.0") == "0000:0b:00.0"
    assert pci_address("") == ""


ROCM_OLD = {
    "card0": {
        "Card series": "Radeon RX 7900 XTX", "Card model": "0x744c", "Card vendor": "AMD",
        "PCI Bus": "0000:03:00.0", "VRAM Total Memory (B)": "25753026560",
    },
    "system": {"Driver version": "6.3.6"},
}  # fmt: skip
ROCM_NEW = {
    "card0": {
        "Card Series": "AMD Radeon RX 7900 XTX", "Card Model": "0x744c", "GFX Version": "gfx1100",
        "PCI Bus": "0000:03:00.0", "VRAM Total Memory (B)": "25753026560",
    }
}  # fmt: skip


@pytest.mark.parametrize("output", [ROCM_OLD, ROCM_NEW])
def test_rocm_smi_of_either_wording_is_read(output: dict[str, object]) -> None:
    (gpu,) = parse_rocm_smi(json.dumps(output))
    assert gpu.name.endswith("Radeon RX 7900 XTX") and gpu.memory_bytes == 25753026560
    assert gpu.address == "0000:03:00.0" and gpu.vendor is Vendor.AMD


@pytest.mark.parametrize(
    "output", ["", "WARNING: no GPU", "[]", '{"card0": 3}', '{"SPDisplaysDataType": 5}']
)
def test_tools_that_say_nothing_useful_show_no_gpu(output: str) -> None:
    assert parse_rocm_smi(output) == [] and parse_system_profiler(output) == []


def test_system_profiler_is_read() -> None:
    output = json.dumps(
        {
            "SPDisplaysDataType": [
                {"_name": "Apple M2 Pro", "sppci_model": "Apple M2 Pro", "sppci_cores": "19"}
            ]
        }
    )
    assert parse_system_profiler(output) == [DetectedGpu(Vendor.APPLE, "Apple M2 Pro")]


def adapter(
    root: Path, card: str, vendor: str, address: str, driver: str, vram: str | None = None
) -> None:
    folder = root / "sys/class/drm" / card / "device"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "uevent").write_text(f"DRIVER={driver}\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}\n")
    if vram:
        (folder / "mem_info_vram_total").write_text(vram + "\n")


def test_bus_shows_gpus_and_not_consoles(tmp_path: Path) -> None:
    adapter(tmp_path, "card0", "0x1a03", "0000:06:00.0", "ast")
    adapter(tmp_path, "card1", "0x10de", "0000:01:00.0", "nouveau")
    adapter(tmp_path, "card1-HDMI-A-1", "0x10de", "0000:01:00.0", "nouveau")
    adapter(tmp_path, "card2", "0x1002", "0000:03:00.0", "amdgpu", "25753026560")
    adapter(tmp_path, "card3", "0x1af4", "0000:04:00.0", "virtio-pci")
    nvidia, amd = gpus_on_bus(tmp_path)
    assert (nvidia.vendor, nvidia.driver, nvidia.memory_bytes) == (Vendor.NVIDIA, False, None)
    assert (amd.vendor, amd.driver, amd.memory_bytes) == (Vendor.AMD, True, 25753026560)


def test_detection_joins_the_tools_and_the_bus(tmp_path: Path) -> None:
    adapter(tmp_path, "card0", "0x1002", "0000:03:00.0", "amdgpu")
    adapter(tmp_path, "card1", "0x8086", "0000:00:02.0", "i915")
    found = detect_gpus(
        tmp_path, lambda argv: json.dumps(ROCM_NEW) if argv[0] == "rocm-smi" else ""
    )
    assert {(gpu.vendor, bool(gpu.name)) for gpu in found} >= {
        (Vendor.AMD, True),
        (Vendor.INTEL, False),
    }
    assert sum(gpu.vendor is Vendor.AMD for gpu in found) == 1
