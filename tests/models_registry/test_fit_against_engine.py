"""The fit's figures against those that the real llama-server prints when it loads a model."""

import re
from pathlib import Path

import pytest

from models_registry.demo.synthesize import synthesize
from models_registry.gguf_header import read_facts
from nodes.mesh.fit import ENGINE_BASE_BYTES, memory_needed
from tests.models_registry.engine_process import served

MIB = 1024 * 1024
_BUFFER = re.compile(r"(KV|compute|model|output) buffer size = +([0-9.]+) MiB")


def reported(model: Path, context: int, parallel: int) -> dict[str, float]:
    """Return the MiB of each kind of buffer, as the engine reports them once it is loaded."""
    log = model.with_suffix(f".{context}.{parallel}.log")
    with served(model, log, "-c", str(context * parallel), "-np", str(parallel), "-v"):
        pass
    found: dict[str, float] = {}
    for kind, mib in _BUFFER.findall(log.read_text(errors="replace")):
        found[kind] = max(found.get(kind, 0.0), float(mib))
    return found


@pytest.mark.engine
@pytest.mark.parametrize(
    ("preset", "context", "parallel"),
    [("tiny", 4096, 1), ("tiny", 4096, 4), ("big200", 4096, 1), ("big200", 8192, 2)],
)
def test_what_the_engine_reports_is_covered_and_the_cache_is_exact(
    tmp_path: Path, preset: str, context: int, parallel: int
) -> None:
    model = synthesize(tmp_path / "m.gguf", preset)
    need = memory_needed(read_facts(model), context, parallel, None)
    seen = reported(model, context, parallel)
    assert need.kv_bytes == pytest.approx(seen["KV"] * MIB, rel=0.01)
    buffers = seen["compute"] + seen.get("output", 0.0)
    ours = (need.compute_bytes - ENGINE_BASE_BYTES) / MIB
    assert buffers <= ours <= 1.6 * buffers + 8
    assert need.total_bytes >= (seen["model"] + seen["KV"] + buffers) * MIB
