"""What all targets stand on: a scratch folder, the fake engine, the real one with a model."""

import os
from pathlib import Path

from benchmarks.process import REPO
from benchmarks.target import Ground
from tests.fakes.fake_engine import write_fake_engine


def lay_ground(scratch: Path, model: Path | None = None) -> Ground:
    """Return the ground in `scratch`; it says why the real engine is left out where it is.

    `model` None: the demo model that the project ships.
    """
    fake = write_fake_engine(scratch / "bin")
    real = _real_engine()
    models = [model] if model else sorted((REPO / "models_registry" / "demo").rglob("*.gguf"))
    missing = ""
    if not (real / "llama-server").exists():
        missing = "no real engine: run `make setup`, or set MESH_LLM_TEST_ENGINE to its folder"
    elif not models:
        missing = "no demo model in models_registry/demo"
    if missing:
        return Ground(scratch, fake, None, None, absent_real=missing)
    return Ground(scratch, fake, real, models[0].resolve(), own_model=model is not None)


def _real_engine() -> Path:
    """Return the folder that was told, or where `make setup` puts the engine."""
    told = os.environ.get("MESH_LLM_TEST_ENGINE")
    home = Path(os.environ.get("MESH_LLM_HOME") or "~/.mesh-llm").expanduser()
    return Path(told) if told else home / "engine"
