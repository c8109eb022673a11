"""`meshsite.asgi:application` under servers that are not ours: /v1, console and websocket in one."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.conftest import REPO
from tests.e2e.node_process import NodeProcess, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

SERVERS = {
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "meshsite.asgi:application"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "meshsite.asgi:application"],
}


class ServedNode(NodeProcess):
    """The application under another server's command."""

    def __init__(self, home: Path, name: str, **env: str) -> None:
        super().__init__(home, "--no-console", **env)  # type: ignore[arg-type]
        self.name = name
        self._command = [word.format(port=self.port) for word in SERVERS[name]]

    def start(self) -> "ServedNode":
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=REPO, env=self._env, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self


@pytest.fixture(params=sorted(SERVERS))
def served(
    request: pytest.FixtureRequest, home: Path, engine_dir: Path, models_dir: Path
) -> Iterator[ServedNode]:
    env = {
        "MESH_LLM_MODEL": str(models_dir / "tiny.gguf"),
        "MESH_LLM_BIN_DIR": str(engine_dir),
        "MESH_LLM_PORT": str(free_port()),
    }
    with ServedNode(home, request.param, **env) as node:
        yield node


def test_api_console_and_stream_work_under_any_asgi_server(served: ServedNode) -> None:
    client = openai.OpenAI(base_url=f"{served.api}/v1", api_key="none")
    stream = client.completions.create(model="tiny", prompt="hi", max_tokens=5, stream=True)
    assert sum(1 for _ in stream) >= 5
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4o", prompt="hi")
    with urllib.request.urlopen(served.api + "/", timeout=10) as page:
        assert b"mesh-llm" in page.read()
    assert served.get("/api/status")[1]["llama_ready"] is True
    if "daphne" in served.name:  # uvicorn speaks websocket only with a further package
        assert first_topology_message(served.port)["type"] == "snapshot"
    served.children()
    served.process.terminate()
    served.wait_exit()
    served.wait_childless(5)


def first_topology_message(port: int) -> dict:
    async def read() -> dict:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /ws/topology HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n" % port
        )
        assert b" 101 " in await reader.readline()
        while await reader.readline() != b"\r\n":
            pass
        head = await reader.readexactly(2)
        length = head[1] & 127
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        message: dict = json.loads(await reader.readexactly(length))
        writer.close()
        return message

    return asyncio.run(asyncio.wait_for(read(), 10))
