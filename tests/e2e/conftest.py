"""Models and homes for tests of whole nodes."""

from pathlib import Path

import pytest

from models_registry.demo.synthesize import synthesize


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
