"""A whole node as a process of its own, as a user starts it, with everything it leaves behind told."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from models_registry.supervision.process import spawn_prefix
from tests.conftest import REPO

START_MAX_S = 30.0
STOP_MAX_S = 30.0


def free_port() -> int:
    """Return a loopback TCP port that nobody uses now."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class NodeProcess:
    """`mesh-llm ARGS` under a home of its own. A context manager: the node is ended, whatever happens."""

    def __init__(
        self,
        home: Path,
        *args: str,
        engine: Path | None = None,
        until: str = "ready",
        checkout: Path = REPO,
        label: str = "",
        **env: str,
    ) -> None:
        """`until`: what entering waits for: ``ready`` (a model answers), ``open`` (the port), ``started``.

        `checkout` is the folder whose code runs; `label` names the output where two share a home.
        """
        self.home = home
        self._checkout = checkout
        self.until = until
        self.port = free_port()
        self.args = ["--port", str(self.port), *args]
        if engine is not None:
            self.args += ["--bin-dir", str(engine)]
        self.console_port: int | None = None
        if "--console" in args:
            self.console_port = int(args[args.index("--console") + 1])
        elif "--no-console" not in args:
            self.console_port = free_port()
            self.args += ["--console", str(self.console_port)]
        self._env = _clean_env(home) | env
        self._output = home.parent / f"{label or home.name}.out"
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[tuple[int, float]] = set()

    def start(self) -> Self:
        """Start and return at once. The node ends with this process, also when that is killed."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*spawn_prefix(), sys.executable, "-m", "meshsite.cli", *self.args],
                cwd=self._checkout, env=self._env, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            if self.until != "started":
                (self.wait_ready if self.until == "ready" else self.wait_open)()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.children()
            self.process.terminate()
            try:
                self.process.wait(STOP_MAX_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for child in self.children_alive():
            child.kill()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The node's process."""
        assert self._process is not None, "start the node first"
        return self._process

    @property
    def output(self) -> str:
        """What the node printed and logged so far."""
        return self._output.read_text("utf-8", "replace")

    @property
    def api(self) -> str:
        """The API's base address, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def console(self) -> str:
        """The console's address."""
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def operator_link(self) -> str:
        """The one-time link that the start-up lines show."""
        found = re.search(r"http://\S+/operator/\S+", self.output)
        assert found, self.output
        return found.group().replace("localhost", "127.0.0.1")

    def wait_ready(self, max_s: float = START_MAX_S) -> None:
        """Wait until a model answers."""
        self.wait_for(lambda: self.get("/v1/models")[1].get("data"), "a model", max_s)

    def wait_open(self, max_s: float = START_MAX_S) -> None:
        """Wait until the API's port answers at all."""
        self.wait_for(lambda: self.get("/health")[0] in (200, 503), "the API", max_s)

    def wait_for(self, condition: Any, what: str, max_s: float = START_MAX_S) -> Any:
        """Wait until `condition()` is true; a node that ended meanwhile fails at once."""
        deadline = time.monotonic() + max_s
        while True:
            try:
                if found := condition():
                    return found
            except (OSError, ValueError):
                pass
            assert self.process.poll() is None, f"the node ended:\n{self.output}"
            assert time.monotonic() < deadline, f"no {what} after {max_s} s:\n{self.output}"
            time.sleep(0.02)

    def wait_exit(self, max_s: float = STOP_MAX_S) -> int:
        """Wait for the node's own end and return its exit code."""
        return self.process.wait(max_s)

    def get(self, path: str, base: str | None = None, **headers: str) -> tuple[int, Any]:
        """Return (status, JSON body) of a GET."""
        request = urllib.request.Request((base or self.api) + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def text(self, path: str, **headers: str) -> str:
        """Return the text of a GET that is answered with 200."""
        request = urllib.request.Request(self.api + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
            return found.decode()

    def post(
        self, path: str, body: Any, base: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Return (status, JSON body) of a POST of JSON."""
        headers = {"Content-Type": "application/json"} | headers
        payload = json.dumps(body).encode()
        request = urllib.request.Request((base or self.api) + path, payload, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def status(self) -> dict[str, Any]:
        """Return the status document as the command line sees it."""
        secret = (self.home / "run" / "secret").read_text().strip()
        found: dict[str, Any] = self.get("/mesh/status", Authorization=f"Bearer {secret}")[1]
        return found

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another word of `mesh-llm` under the same home."""
        return subprocess.run(
            [sys.executable, "-m", "meshsite.cli", *words],
            cwd=self._checkout, env=self._env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def children(self) -> list[psutil.Process]:
        """Return the node's children of now, all generations; they are remembered."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._seen |= {(child.pid, child.create_time()) for child in found}
        return found

    def children_alive(self) -> list[psutil.Process]:
        """Return the remembered children that still live."""
        alive = []
        for pid, created in self._seen:
            try:
                child = psutil.Process(pid)
                if child.create_time() == created and child.status() != psutil.STATUS_ZOMBIE:
                    alive.append(child)
            except psutil.NoSuchProcess:
                continue
        return alive

    def wait_childless(self, max_s: float) -> None:
        """Wait until every remembered child has ended."""
        deadline = time.monotonic() + max_s
        while alive := self.children_alive():
            assert time.monotonic() < deadline, f"still alive after {max_s} s: {alive}"
            time.sleep(0.05)

    def engine_process(self) -> psutil.Process:
        """Return the llama-server of this node."""
        found = [c for c in self.children() if "llama-server" in " ".join(c.cmdline()[:1])]
        assert found, [c.cmdline() for c in self.children()]
        return found[0]

    def kill(self) -> None:
        """SIGKILL the node alone."""
        self.children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def _clean_env(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_LLM_", "DJANGO_"))}
    return kept | {
        "MESH_LLM_HOME": str(home),
        "MESH_LLM_BIND_IP": "127.0.0.1",
        "HOME": str(home.parent),
        "PYTHONUNBUFFERED": "1",
    }
