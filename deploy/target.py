"""Which machine a bundle is for: measured here, written into it, checked by its installer.

The least C library (or macOS) is read off the wheels' tags (PEP 600, PEP 425), where any one tag of
a wheel suffices and every wheel must be satisfied. An engine that was built on this machine, without
a C library of its own, needs at least this machine's.
"""

import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from deploy.faults import BundleFailed

LEGACY_MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_")
_MACOS = re.compile(r"macosx_(\d+)_(\d+)_")
_VALUE = re.compile(r"[A-Za-z0-9 ._+-]*")
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """The lines of a bundle's file ``BUNDLE``, one ``key=value`` each, that a shell can read."""

    version: str
    """The software's."""
    system: str
    """As `uname -s` says: ``Linux`` or ``Darwin``."""
    machine: str
    """As `uname -m` says."""
    runtime: str
    """``glibc``, ``musl`` or ``macos``: what the wheels' programs rely on."""
    runtime_min: str
    """The least version of `runtime`; empty: any."""
    python: str
    """Major and minor, as ``3.11``: the binary wheels are for no other."""
    engine: str
    """The engine's version, to show."""
    engine_loader: str
    """The loader in the engine's folder that its programs must be pointed at; empty: the system's."""
    engine_programs: str
    """File names, separated by spaces."""
    installed_mb: int
    """Disk that an installed bundle takes, in decimal MB, rounded up."""

    def text(self) -> str:
        """Return the file.

        Raises:
            BundleFailed: a value that a shell could read as more than a value.
        """
        for field in fields(self):
            if not _VALUE.fullmatch(str(getattr(self, field.name))):
                raise BundleFailed(
                    f"{field.name} is {getattr(self, field.name)!r}, which no bundle can say."
                )
        return "".join(f"{field.name}={getattr(self, field.name)}\n" for field in fields(self))

    def stem(self) -> str:
        """Return what the bundle is called, without an ending."""
        python = self.python.replace(".", "")
        return f"mesh-llm-{self.version}-{self.system.lower()}-{self.machine}-py{python}"


def runtime_here() -> tuple[str, Version]:
    """Return this machine's C library (on macOS: the system) and its version.

    Raises:
        BundleFailed: neither glibc, musl nor macOS.
    """
    if sys.platform == "darwin":
        return "macos", _numbers(platform.mac_ver()[0])
    if sys.platform != "linux":
        raise BundleFailed(
            "Bundles are made on Linux and macOS only; on Windows, make one in WSL 2."
        )
    name, version = platform.libc_ver()
    return ("glibc", _numbers(version)) if name == "glibc" else ("musl", ())


def runtime_min(wheel_names: Iterable[str], here: Version) -> Version:
    """Return the least version that every wheel is content with; `here`: what one built here needs."""
    return max((_least(parse_wheel_filename(name)[3], here) for name in wheel_names), default=())


def python_here() -> str:
    """Return this Python's major and minor version, as ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def dotted(version: Version) -> str:
    """Return ``2.28`` for (2, 28); empty for none."""
    return ".".join(map(str, version))


def _least(tags: Iterable[Tag], here: Version) -> Version:
    return min(chain.from_iterable(_of_platform(tag.platform, here) for tag in tags), default=())


def _of_platform(name: str, here: Version) -> Sequence[Version]:
    """Return what a tag asks for; nothing for another system's, such as a musllinux on glibc."""
    if name == "any":
        return ((),)
    if match := _GLIBC.match(name) or _MACOS.match(name):
        return ((int(match[1]), int(match[2])),)
    for legacy, version in LEGACY_MANYLINUX.items():
        if name.startswith(f"{legacy}_"):
            return (version,)
    return (here,) if name.startswith("linux_") else ()


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
