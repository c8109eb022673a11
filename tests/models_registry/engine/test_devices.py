"""The devices that an engine lists."""

from pathlib import Path

import pytest

from models_registry.engine.devices import MIB, list_devices, parse_devices
from models_registry.engine.probe import probe
from nodes.mesh.resources import Device
from tests.models_registry.engine.conftest import fake_engine

TWO = """ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes
Available devices:
  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23500 MiB free)
  Vulkan1: AMD Radeon (TM) Graphics (RADV RENOIR) (8192 MiB, 8000 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
"""


def test_each_line_is_a_device_with_its_memory_and_blas_is_none() -> None:
    assert parse_devices(TWO) == (
        Device("CUDA0", "NVIDIA GeForce RTX 3090", 24124 * MIB, 23500 * MIB),
        Device("Vulkan1", "AMD Radeon (TM) Graphics (RADV RENOIR)", 8192 * MIB, 8000 * MIB),
    )


@pytest.mark.parametrize(
    "text", ["", "Available devices:\n  (none)\n", "Available devices:\n", "noise"]
)
def test_no_device_listed_is_no_device(text: str) -> None:
    assert parse_devices(text) == ()


def test_devices_are_asked_afresh_each_time(tmp_path: Path) -> None:
    says = "Available devices:\\n  CUDA0: X (%s MiB, 1 MiB free)\\n"
    engine = probe(fake_engine(tmp_path, says=says.replace("%s", "10")), "home", None)
    assert [d.total_bytes for d in list_devices(engine)] == [10 * MIB]
    fake_engine(tmp_path, says=says.replace("%s", "20"))
    assert [d.total_bytes for d in list_devices(engine)] == [20 * MIB]


@pytest.mark.engine
def test_real_engine_lists_devices_without_a_fault(real_engine_dir: Path) -> None:
    engine = probe(real_engine_dir / "llama-server", "home", None)
    assert isinstance(list_devices(engine), tuple)
