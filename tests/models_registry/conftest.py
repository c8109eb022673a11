"""Models that the tests of this app share: written once for a run, by the project's own maker."""

import os
from pathlib import Path

import django
import pytest

from models_registry.demo.synthesize import synthesize


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a whole 2.7 MB model. Not to be changed by a test: copy it."""
    return synthesize(tmp_path_factory.mktemp("models") / "tiny.gguf", "tiny")


@pytest.fixture(scope="session")
def draft_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a smaller model with the same tokenizer."""
    return synthesize(tmp_path_factory.mktemp("models") / "draft.gguf", "draft")


@pytest.fixture(scope="session", autouse=True)
def django_ready() -> None:
    """Set Django up once: the management commands need its settings. No database is touched."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "meshsite.settings")
    django.setup()
