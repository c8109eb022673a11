"""What a split of two and of three machines answers at temperature 0 is what one machine answers."""

from pathlib import Path

import pytest

from tests.e2e.mesh_processes import MeshProcesses
from tests.e2e.split_mesh import LAYERS, SHAPE, answer, layout, wait_parts, write_model

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.slow]

WORDS = ("mesh", "node", "token", "stream", "layer", "memory", "split", "road", "river", "stone")
PROMPTS = [f"{first} {ask}" for first in WORDS for ask in
           ("is", "what is it", "a b c", "tell me more about the host", "1 2 3 4 5 6 7 8 9 10")]  # fmt: skip


def test_fifty_prompts_are_answered_alike_alone_two_ways_and_three_ways(
    made: MeshProcesses, tmp_path: Path
) -> None:
    model = write_model(tmp_path)
    words = ("--model", str(model), *SHAPE)
    a = made.start("box-a", *words, "--max-vram", "0.4", until="ready")
    alone = [answer(a, prompt) for prompt in PROMPTS]
    assert len(set(PROMPTS)) == 50
    assert len(set(alone)) > 25, "the model says different things"
    a.process.terminate()
    assert a.wait_exit() == 0
    for name, wide in (("two", ()), ("three", ("--ctx-size", "4096"))):
        names = [f"{name}-{number}" for number in range(len(wide) // 2 + 2)]
        host = made.start(names[0], *words, *wide, "--max-vram", "0.081")
        for other in names[1:]:
            made.start(other, *words, *wide, "--max-vram", "0.08", join=made.token(names[0]))
        wait_parts(host, *names)
        found = layout(host)
        assert found is not None
        assert sum(found.layers) == LAYERS
        assert [answer(host, prompt) for prompt in PROMPTS] == alone
        for other in names:
            made.nodes[other].process.terminate()
