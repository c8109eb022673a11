"""The console's chat on a node whose API asks for a key: the page brings none, the console vouches."""

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess
from tests.fakes.fake_engine.folder import write_fake_engine

pytestmark = pytest.mark.e2e


def test_chat_answers_though_the_page_brings_no_key(
    home: Path, models_dir: Path, tmp_path: Path
) -> None:
    engine = write_fake_engine(tmp_path / "engine", sys.executable)
    model = str(models_dir / "tiny.gguf")
    key = {"Authorization": "Bearer right"}
    with NodeProcess(
        home, "--model", model, engine=engine, until="open", MESH_LLM_API_KEY="right"
    ) as node:
        node.wait_for(lambda: node.get("/v1/models", **key)[1].get("data"), "a model")
        node.wait_for(lambda: node.get("/health", node.console)[0] == 200, "the console")
        secret = (home / "run" / "secret").read_text().strip()
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        request = urllib.request.Request(
            f"{node.console}/api/chat",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            events = answer.read().decode()
        assert "event: error" not in events, events
        assert "event: done" in events
        assert node.get("/v1/models", Authorization="Bearer wrong")[0] == 401
