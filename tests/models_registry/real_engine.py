"""The engine as tests find it: the environment's, else the one that `make setup` puts into the repo."""

import os
from functools import cache
from pathlib import Path

from models_registry.engine.probe import Engine, probe


@cache
def real_engine() -> Engine:
    """Return the probed engine; a test without one fails with the command that gets it."""
    repo = Path(__file__).parent.parent.parent
    folder = Path(os.environ.get("MESH_LLM_TEST_ENGINE") or repo / ".cache" / "engine")
    server = folder / "llama-server"
    assert server.exists(), f"no llama-server in {folder}: run `make setup`"
    return probe(server, "test", repo / ".cache" / "test-probe")
