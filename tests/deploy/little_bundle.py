"""A bundle with the real installer, pip and layout, but a one-file program and an engine of shell scripts."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy import archive, bundle, target, wheels

PYTHON = Path(sys.executable).resolve()
"""The Python under this environment: what a machine without the project has."""
CLI = """\
import sys
import little_wheel
print("mesh-llm", "{version}", little_wheel.NAME, *sys.argv[1:])
"""
SCRIPT = '#!/bin/sh\necho "$0 $1"\n'


def make_wheel(folder: Path, name: str = "little_wheel", tag: str = "py3-none-any") -> Path:
    """Return a wheel of one module, made in `folder`."""
    made = folder / f"{name}-1.0-{tag}.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr(f"{name}.py", f"NAME = {name!r}\n")
        opened.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        opened.writestr(
            f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        opened.writestr(f"{about}/RECORD", "")
    return made


class LittleBundle:
    """An unpacked bundle, and a machine to install it on: a home, and commands that hide the real ones."""

    def __init__(self, folder: Path, version: str = "1.0", **facts: str | int) -> None:
        self.machine = folder
        self.home = folder / "home"
        self.stubs = folder / "stubs"
        self.prefix = self.home / ".local"
        self.root = folder / f"bundle-{version}"
        for made in (self.home, self.stubs):
            made.mkdir(exist_ok=True)
        self.root.mkdir()
        app = self.root / "app" / "meshsite"
        app.mkdir(parents=True)
        (app / "__init__.py").touch()
        (app / "cli.py").write_text(CLI.format(version=version))
        engine = self.root / "engine"
        engine.mkdir()
        for name in ("llama-server", "ggml-rpc-server"):
            (engine / name).write_text(SCRIPT)
            (engine / name).chmod(0o755)
        (engine / "libggml.so").write_bytes(b"library")
        (self.root / "wheels").mkdir()
        wheel = make_wheel(self.root / "wheels")
        (self.root / "wheels" / wheels.LIST_NAME).write_text(wheels.pin([wheel]))
        archive.copy_tree(bundle._pip(), self.root / "pip" / "pip")
        for path in bundle.PAYLOAD.iterdir():
            if path.is_file():
                shutil.copy(path, self.root / path.name)
        self.say(version, **facts)

    def say(self, version: str, **facts: str | int) -> None:
        """Write what the bundle says it is for, this machine unless told otherwise, and the sums."""
        runtime, least = target.runtime_here()
        values: dict = {
            "version": version, "system": platform.system(), "machine": platform.machine(),
            "runtime": runtime, "runtime_min": target.dotted(least), "python": target.python_here(),
            "engine": "0.7.0", "engine_loader": "", "engine_programs": "llama-server ggml-rpc-server",
            "installed_mb": 1,
        }  # fmt: skip
        (self.root / "BUNDLE").write_text(target.Target(**(values | facts)).text())
        archive.write_sums(self.root)

    def stub(self, name: str, script: str) -> None:
        """Put a command before the machine's own of that name."""
        path = self.stubs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def environment(self, **env: str) -> dict[str, str]:
        """Return what the installer sees."""
        path = f"{self.stubs}:/usr/bin:/bin"
        return {"HOME": str(self.home), "PATH": path, "PYTHON": str(PYTHON)} | env

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the installer."""
        return subprocess.run(
            [str(self.root / "install.sh"), *words], env=self.environment(**env), cwd=self.machine,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110,
        )  # fmt: skip

    def install(self, *words: str) -> str:
        """Install; return what was said."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, *words: str, **env: str) -> str:
        """Return the one line that a run which must fail says."""
        done = self.run(*words, **env)
        assert done.returncode == 1, done.stdout
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        return lines[0]

    def command(self, *words: str) -> str:
        """Return what the installed command prints."""
        done = subprocess.run(
            [str(self.prefix / "bin" / "mesh-llm"), *words],
            env={"HOME": str(self.home), "PATH": os.defpath}, cwd="/",
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def versions(self) -> set[str]:
        """The names of the versions that are installed, whole or not."""
        lib = self.prefix / "lib" / "mesh-llm"
        return {path.name for path in lib.iterdir() if path.is_dir() and not path.is_symlink()}

    @property
    def current(self) -> Path:
        """The folder that is in use."""
        return (self.prefix / "lib" / "mesh-llm" / "current").resolve()
