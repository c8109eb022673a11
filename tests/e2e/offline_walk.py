"""What a person does with a bundle on a new machine, in one process that has no network but loopback.

Run as `unshare -rn python -m tests.e2e.offline_walk BUNDLE FOLDER` by the test beside it: unpack,
install, a node, a second node that joins it by its token, a question to each. Prints what came of it
as JSON. FOLDER becomes the new machine's disk, with an empty home on it.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.e2e.mesh_processes import wait_state
from tests.e2e.node_process import NodeProcess

INSTALL_MAX_S = 180
QUESTION = {"messages": [{"role": "user", "content": "What is a mesh?"}], "temperature": 0}
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
SOMEWHERE = ("192.0.2.1", 443)
"""An address of RFC 5737, for documentation: nothing is sent, since no route leads there."""


class InstalledNode(NodeProcess):
    """A node by the installed command."""

    def __init__(self, disk: Path, name: str, *args: str) -> None:
        super().__init__(disk / name, "--name", name, "--no-console", *args)
        self._command = str(disk / "home" / ".local" / "bin" / "mesh-llm")
        self._env = machine(disk) | {
            "MESH_LLM_HOME": str(disk / name),
            "MESH_LLM_BIND_IP": "127.0.0.1",
        }

    def start(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [self._command, *self.args], cwd="/", env=self._env, stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self


def machine(disk: Path) -> dict[str, str]:
    """Return the environment of the new machine: an empty home, a Python, the system's commands."""
    python = Path(sys.executable).resolve()
    return {"HOME": str(disk / "home"), "PATH": f"{python.parent}:/usr/bin:/bin"}


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def has_network() -> bool:
    with socket.socket() as outward:
        outward.settimeout(2)
        try:
            outward.connect(SOMEWHERE)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def ask(node: NodeProcess) -> str:
    status, body = node.post("/v1/chat/completions", QUESTION | {"model": "mesh-demo"})
    assert status == 200, (body, node.output)
    return str(body["choices"][0]["message"]["content"])


def walk(bundle: Path, disk: Path) -> dict[str, Any]:
    (disk / "home").mkdir()
    env = machine(disk)
    command = f"tar xzf {bundle} && ./{bundle.name.removesuffix('.tar.gz')}/install.sh"
    installed = subprocess.run(
        command, shell=True, cwd=disk, env=env, capture_output=True, text=True,
        timeout=INSTALL_MAX_S,
    )  # fmt: skip
    found: dict[str, Any] = {
        "network": has_network(),
        "install": installed.returncode,
        "said": installed.stdout + installed.stderr,
    }
    if installed.returncode:
        return found
    with InstalledNode(disk, "first") as first:
        found["first"] = ask(first)
        token = first.wait_for(lambda: first.status().get("token"), "a token")
        with InstalledNode(disk, "second", "--join", token) as second:
            wait_state(second, "first", "alive")
            wait_state(first, "second", "alive")
            found["second"] = ask(second)
            found["engine"] = first.engine_process().exe()
            second.children()
        first.children()
    found["left"] = [str(child) for node in (first, second) for child in node.children_alive()]
    removed = subprocess.run(
        ["sh", f"{disk}/home/.local/lib/mesh-llm/current/install.sh", "uninstall"],
        env=env, capture_output=True, text=True, timeout=INSTALL_MAX_S,
    )  # fmt: skip
    found["uninstall"] = removed.returncode
    found["files"] = [path for path, _, files in os.walk(disk / "home" / ".local") if files]
    return found


if __name__ == "__main__":
    loopback_up()
    sys.stdout.write(json.dumps(walk(Path(sys.argv[1]), Path(sys.argv[2]))))
