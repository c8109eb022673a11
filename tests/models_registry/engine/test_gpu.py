"""Which GPU backends an install adds."""

from pathlib import Path

import pytest

from models_registry.engine.gpu import AMD, INTEL, NVIDIA, Backend, GpusSeen, backends, seen

QEMU = 0x1234


@pytest.mark.parametrize(
    ("vendors", "vulkan", "kfd", "expected"),
    [
        (set(), True, False, ()),
        ({QEMU}, True, False, ()),
        ({NVIDIA}, True, False, (Backend.VULKAN,)),
        ({NVIDIA}, False, False, ()),
        ({INTEL}, True, False, (Backend.VULKAN,)),
        ({AMD}, True, True, (Backend.VULKAN,)),
        ({AMD}, False, True, (Backend.HIP,)),
        ({AMD}, False, False, ()),
        ({NVIDIA}, False, True, ()),
    ],
)
def test_backends(
    vendors: set[int], vulkan: bool, kfd: bool, expected: tuple[Backend, ...]
) -> None:
    assert backends(GpusSeen(frozenset(vendors), vulkan, kfd)) == expected


def test_machine_is_read_from_sysfs_and_the_software_renderer_is_no_driver(tmp_path: Path) -> None:
    for name, kind, vendor in (("a", "0x030000", "0x1002"), ("b", "0x020000", "0x8086")):
        device = tmp_path / "sys/bus/pci/devices" / name
        device.mkdir(parents=True)
        (device / "class").write_text(kind + "\n")
        (device / "vendor").write_text(vendor + "\n")
    icd = tmp_path / "usr/share/vulkan/icd.d"
    icd.mkdir(parents=True)
    (icd / "lvp_icd.x86_64.json").write_text("{}")
    assert seen(tmp_path) == GpusSeen(frozenset({AMD}), False, False)
    (icd / "radeon_icd.x86_64.json").write_text("{}")
    assert seen(tmp_path).vulkan_driver
