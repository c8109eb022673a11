"""Models and homes for tests of whole nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry.demo.synthesize import synthesize
from tests.e2e.mesh_processes import MeshProcesses, mesh


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tiny.gguf and draft.gguf. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("models")
    synthesize(folder / "tiny.gguf", "tiny")
    synthesize(folder / "draft.gguf", "draft")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return where a node's home is to be; it does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def made(tmp_path: Path, engine_dir: Path) -> Iterator[MeshProcesses]:
    """Yield an empty mesh of nodes with the real engine; every node of it is ended at the end."""
    with mesh(tmp_path, engine_dir) as nodes:
        yield nodes
