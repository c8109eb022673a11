"""The engine built on this machine, from the whole llama.cpp source that PyPI's llama-cpp-python
carries: works wherever there is a C++ compiler, and uses CUDA or Metal where their tools are.

Takes minutes. The package's version is not pinned: the newest that pip finds.
"""

import os
import platform
import shutil
import sys
import tarfile
from pathlib import Path

from models_registry.engine import gpu
from models_registry.engine.faults import InstallFailed
from models_registry.engine.steps import Progress, log_percent, need_space, run

PACKAGE = "llama-cpp-python"
DISK_BYTES = 1_500_000_000
"""Source, object files of both programs and the result, with room."""
DOWNLOAD_TIMEOUT_S = 900.0
BUILD_TIMEOUT_S = 3 * 3600.0
"""13 minutes on two slow cores; a CUDA build takes an hour there."""
COMPILERS = ("c++", "g++", "clang++", "cl")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_RPC=ON", "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
)  # fmt: skip
"""Nothing here downloads anything; an option that a version does not know is only warned about."""
NEXT_STEP = (
    "Or install one with a package manager (brew install llama.cpp, winget install llama.cpp, "
    "nix profile install nixpkgs#llama-cpp): an engine on PATH is found by itself."
)
_INSTALL_COMPILER = (
    "Install a C++ compiler (Debian, Ubuntu: apt install g++ make; macOS: xcode-select --install)"
)


def unavailable() -> str | None:
    """Return why nothing can be built here, or None when it can be tried."""
    if not any(shutil.which(name) for name in COMPILERS) and os.name != "nt":
        return f"there is no C++ compiler. {_INSTALL_COMPILER}"
    return None


def build(work: Path, into: Path, final: Path, progress: Progress) -> list[str]:
    """Fill `into` with an engine built under `work`; it runs anywhere, so `final` does not matter.

    Returns the words to put before a program of `into` to run it: none.

    Raises:
        InstallFailed: no compiler, no network, no room, or the compiler's own error.
    """
    if reason := unavailable():
        raise InstallFailed(f"The engine cannot be built: {reason}. {NEXT_STEP}")
    need_space(work, DISK_BYTES)
    tools = work / "tools"
    env = {
        "PYTHONPATH": str(tools),
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    source = fetch(work, tools, env, progress)
    cmake = shutil.which("cmake", path=env["PATH"])
    assert cmake is not None, "fetch brings cmake where there is none"
    out = work / "build"
    progress("configuring the build", None)
    options = cmake_options(cuda=_has_cuda())
    run([cmake, "-S", source, "-B", out, *options], doing="Configuring the build", cwd=work, env=env,
        next_step=f"Read the compiler's message above. {NEXT_STEP}", timeout_s=900)  # fmt: skip
    targets = ["llama-server", rpc_target(source)]
    log = work / "make.log"
    run([cmake, "--build", out, "--config", "Release", "-j", str(os.cpu_count() or 1), "--target", *targets],
        doing="Building the engine", next_step=f"Read the compiler's message above. {NEXT_STEP}",
        timeout_s=BUILD_TIMEOUT_S, cwd=work, env=env, log=log,
        tick=lambda: progress("building (some minutes)", log_percent(log)))  # fmt: skip
    collect(source, out, into, targets)
    return []


def cmake_options(*, cuda: bool) -> list[str]:
    """Return cmake's options; Metal needs none, it is llama.cpp's default on macOS."""
    return [*OPTIONS, *(["-DGGML_CUDA=ON"] if cuda else [])]


def _has_cuda() -> bool:
    """Return whether there is both CUDA's compiler and a GPU of NVIDIA's to run what it makes."""
    return shutil.which("nvcc") is not None and gpu.NVIDIA in gpu.seen().vendors


def rpc_target(source: Path) -> str:
    """Return what this version calls its rpc-server."""
    recipe = source / "tools" / "rpc" / "CMakeLists.txt"
    text = recipe.read_text("utf-8", "replace") if recipe.is_file() else ""
    return "ggml-rpc-server" if "ggml-rpc-server" in text else "rpc-server"


def fetch(work: Path, tools: Path, env: dict[str, str], progress: Progress) -> Path:
    """Return llama.cpp's source folder, downloaded and unpacked under `work`, with the tools it needs."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    check = f"Check the network and pip's settings. {NEXT_STEP}"
    progress("downloading the build tools", None)
    wanted = ["scikit-build-core", *([] if shutil.which("cmake") else ["cmake"])]
    wanted += [] if shutil.which("make") or shutil.which("ninja") else ["ninja"]
    run([*pip, "install", "-q", "--target", tools, *wanted], doing="Downloading the build tools",
        next_step=check, timeout_s=DOWNLOAD_TIMEOUT_S, cwd=work)  # fmt: skip
    progress("downloading the source (76 MB)", None)
    run([*pip, "download", "-q", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", work,
         PACKAGE], doing="Downloading llama.cpp's source", next_step=check,
        timeout_s=DOWNLOAD_TIMEOUT_S, cwd=work, env=env)  # fmt: skip
    archive = next(work.glob("llama_cpp_python-*.tar.gz"), None)
    if archive is None:
        raise InstallFailed(f"pip brought no source archive of {PACKAGE}. {NEXT_STEP}")
    progress("unpacking", None)
    return unpack(archive, work / "source")


def unpack(archive: Path, into: Path) -> Path:
    """Return llama.cpp's folder in the unpacked `archive`.

    Raises:
        InstallFailed: the archive is damaged or holds no llama.cpp.
    """
    try:
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(into, filter="data")
            else:  # Python before 3.11.4; pip has checked the archive's hash
                tar.extractall(into)  # noqa: S202
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InstallFailed(
            f"{archive.name} cannot be unpacked ({error}): try again. {NEXT_STEP}"
        ) from error
    found = next(into.glob("*/vendor/llama.cpp/CMakeLists.txt"), None)
    if found is None:
        raise InstallFailed(f"{archive.name} holds no llama.cpp source any more. {NEXT_STEP}")
    return found.parent


def collect(source: Path, out: Path, into: Path, targets: list[str]) -> None:
    """Copy the built programs and the licence to `into`, without debugging symbols."""
    into.mkdir()
    suffix = ".exe" if platform.system() == "Windows" else ""
    for target in targets:
        built = next((p for p in out.rglob(target + suffix) if p.is_file()), None)
        if built is None:
            raise InstallFailed(f"The build ended without {target}. {NEXT_STEP}")
        shutil.copy(built, into / built.name)
        if strip := shutil.which("strip"):
            run([strip, into / built.name], doing="Stripping", next_step=NEXT_STEP, timeout_s=60)
    (into / "licences").mkdir()
    shutil.copy(source / "LICENSE", into / "licences" / "llama.cpp")
