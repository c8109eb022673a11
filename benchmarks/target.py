"""What is measured: something that answers the OpenAI API in front of one or two engines."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.loadgen.spec import LoadSpec
from benchmarks.process import counted, stop

DIRECT, OURS, NGINX, LITELLM = "direct", "mesh-llm", "nginx", "LiteLLM"
ORDER = (DIRECT, OURS, NGINX, LITELLM)
FAKE, REAL = "fake", "real"

FAKE_TOKEN_MARK = " qz"
"""The fake engine's token (`tests.fakes.fake_engine.answers.TOKEN`)."""
REAL_TOKEN_MARK = "data: {"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way into a target: the port to ask, the model's name there, the engine's own port behind."""

    port: int
    model: str
    engine_port: int
    token_mark: str
    key: str = ""
    """Sent as a bearer token; empty: none."""

    def load(self, kind: str, body: dict[str, Any], **more: Any) -> LoadSpec:
        """Return the spec of a load on this endpoint; `body` gets model and messages."""
        full = {
            "model": self.model,
            "messages": [{"role": "user", "content": "What is a mesh?"}],
            **body,
        }
        mark = self.token_mark if body.get("stream") else ""
        return LoadSpec(kind, self.port, body=full, key=self.key, token_mark=mark, **more)


@dataclass(slots=True)
class Target:
    """A running target: its ways in, and which of its processes the figures count."""

    name: str
    version: str = ""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    measured: dict[str, int] = field(default_factory=dict)
    """Endpoint kind -> pid whose tree (without engines) the figures count; empty for the engine itself."""

    def pids(self, kind: str) -> list[int]:
        """Return the pids that count for this endpoint, as they are now."""
        pid = self.measured.get(kind)
        return counted(pid) if pid is not None else []

    def close(self) -> None:
        """Stop what was started for this target, last first."""
        for process in reversed(self.processes):
            stop(process)
        self.processes.clear()


@dataclass(frozen=True, slots=True)
class Ground:
    """What every target is built on: a scratch folder, the fake engine, the real one (or why not)."""

    scratch: Path
    fake_engine: Path
    real_engine: Path | None
    model: Path | None
    absent_real: str = ""
    own_model: bool = False
    """The model was given by hand: the node is told it, instead of serving its built-in one."""

    def model_argv(self) -> list[str]:
        """Return what a node is told of the model, nothing for the built-in one."""
        return ["--model", str(self.model)] if self.own_model else []


Builder = Callable[[Ground, dict[str, Endpoint]], Target]
"""Starts one target before the upstream endpoints; raises TargetFailed."""
