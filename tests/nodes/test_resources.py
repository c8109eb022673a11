"""What a machine offers: devices, else three quarters of the RAM it may use; a cap only lowers."""

import os
import time
from pathlib import Path

import psutil
import pytest

from nodes.mesh.resources import Device
from nodes.runtime.gpu_matching import DetectedGpu, Vendor
from nodes.runtime.memory_limits import CgroupMemory, cgroup_cpus, cgroup_memory
from nodes.runtime.resources import ResourceSampler, offered_bytes

GIB = 1024**3
CUDA = Device("CUDA0", "NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB)
VULKAN = Device("Vulkan1", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 20 * GIB, 20 * GIB)


@pytest.mark.parametrize(
    ("devices", "ram", "cap", "offered"),
    [
        ((), 64 * GIB, None, 48 * GIB),
        ((), 4 * GIB, None, 3 * GIB),
        ((CUDA,), 64 * GIB, None, 24 * GIB),
        ((CUDA, VULKAN), 64 * GIB, None, 44 * GIB),
        ((CUDA,), 64 * GIB, 10 * GIB, 10 * GIB),
        ((CUDA,), 64 * GIB, 100 * GIB, 24 * GIB),
        ((), 64 * GIB, 0, 0),
        ((), 64 * GIB, -1, 0),
    ],
)
def test_offer(devices: tuple[Device, ...], ram: int, cap: int | None, offered: int) -> None:
    assert offered_bytes(devices, ram, cap) == offered


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def container(root: Path, limit: str = str(4 * GIB)) -> Path:
    """Return a file tree as a container with cgroup v2 shows it."""
    return write(
        root,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memoryDOTmax=limit + "\n",
        sys__fs__cgroup__memoryDOTcurrent=f"{2 * GIB}\n",
        sys__fs__cgroup__memoryDOTstat=f"anon {GIB}\ninactive_file {GIB}\n",
        sys__fs__cgroup__cpuDOTmax="150000 100000\n",
    )


def test_container_of_4_gib_offers_3(tmp_path: Path) -> None:
    resources = ResourceSampler(lambda: (), None, root=container(tmp_path)).sample(())
    assert resources.offered_bytes == 3 * GIB
    assert resources.ram_total_bytes == 4 * GIB
    assert resources.ram_available_bytes <= 3 * GIB
    assert 1 <= resources.cpu_count <= 2


def test_page_cache_counts_as_available(tmp_path: Path) -> None:
    assert cgroup_memory(container(tmp_path)) == CgroupMemory(4 * GIB, 3 * GIB)
    assert cgroup_cpus(tmp_path) == 2


def test_unlimited_and_missing_cgroups_are_no_limit(tmp_path: Path) -> None:
    assert cgroup_memory(tmp_path) is None and cgroup_cpus(tmp_path) is None
    assert cgroup_memory(container(tmp_path, "max")) is None


def test_tightest_limit_of_the_folders_above_holds(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__self__cgroup="0::/a.slice/b.service\n",
        **{
            "sys/fs/cgroup/a.slice/memory.max": str(2 * GIB),
            "sys/fs/cgroup/a.slice/b.service/memory.max": str(8 * GIB),
        },
    )
    found = cgroup_memory(tmp_path)
    assert found and found.limit_bytes == 2 * GIB


def test_first_version_of_cgroups_is_read_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__self__cgroup="4:cpu,cpuacct:/x\n3:memory:/docker/abc\n",
        **{
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(4 * GIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
        },
    )
    assert cgroup_memory(tmp_path) == CgroupMemory(4 * GIB, 3 * GIB)
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712")
    assert cgroup_memory(tmp_path) is None


def test_sample_of_this_machine_is_plausible_and_cheap() -> None:
    sampler = ResourceSampler(lambda: (CUDA,), None)
    sampler.sample(())
    began_s = time.process_time()
    for _ in range(20):
        sample = sampler.sample((os.getpid(), 2**22 + 1))
    assert (time.process_time() - began_s) / 20 < 0.01
    assert 0 < sample.ram_available_bytes <= sample.ram_total_bytes <= psutil.virtual_memory().total
    assert sample.engine_rss_bytes > 10_000_000 and sample.process_rss_bytes > 10_000_000
    assert 0 <= sample.cpu_percent <= 100 and sample.cpu_count >= 1
    assert sample.devices == (CUDA,) and sample.offered_bytes == CUDA.total_bytes


def test_idle_gpu_is_said_once_looked_for_and_not_offered() -> None:
    detected = (DetectedGpu(Vendor.AMD, "Radeon RX 7900 XTX", 24 * GIB),)
    sampler = ResourceSampler(lambda: (), None, detect=lambda: detected)
    assert sampler.sample(()).unusable == ()
    sampler.look_for_gpus()
    sample = sampler.sample(())
    assert [gpu.description for gpu in sample.unusable] == ["Radeon RX 7900 XTX, 24.0 GiB"]
    assert sample.offered_bytes == int(sample.ram_total_bytes * 0.75)
