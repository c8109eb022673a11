"""A model hub on loopback: what huggingface_hub needs of the real one, with faults on request.

Serves model info, HEAD with LFS headers, a redirect to another host (another loopback port) that stores
the bytes, and Range. Faults: cut a transfer after some bytes, gated or absent repositories, any status.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """A running hub. Use as a context manager; `url` goes into HF_ENDPOINT."""

    files: dict[str, bytes] = field(default_factory=dict)
    """``org/repo/path`` -> content."""
    cut_after_bytes: int | None = None
    """Close the connection after so many bytes of a body."""
    cuts_left: int = 0
    """How many transfers are cut still."""
    gated: set[str] = field(default_factory=set)
    """Repositories that need a token."""
    status: int | None = None
    """Answer everything with this status."""
    damage: bool = False
    """Send other bytes than the checksum promises."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers with lower-case names), in order."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"state": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url, self.storage_url = (
            f"http://127.0.0.1:{server.server_port}" for server in self._servers
        )
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def bytes_sent_from(self) -> list[str]:
        """Return the Range header of each transfer from the storage host; empty text: from the beginning."""
        return [
            headers.get("range", "")
            for method, path, headers in self.requests
            if path.startswith("/store/")
        ]


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.state, unquote(urlsplit(self.path).path)
        hub.requests.append(
            (self.command, path, {key.lower(): value for key, value in self.headers.items()})
        )
        if hub.status is not None:
            return self._send(hub.status, b"{}")
        if path.startswith("/api/models/"):
            return self._info(path.removeprefix("/api/models/").split("/revision/")[0])
        if path.startswith("/store/"):
            return self._store(path.removeprefix("/store/"))
        return self._file(path.lstrip("/"))

    def _refused(self, repo: str) -> bool:
        if repo in self.state.gated and "authorization" not in {
            key.lower() for key in self.headers
        }:
            self._send(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
            return True
        if not any(path.startswith(repo + "/") for path in self.state.files):
            self._send(
                404,
                b"{}",
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"},
            )
            return True
        return False

    def _info(self, repo: str) -> None:
        if self._refused(repo):
            return
        siblings = [
            {"rfilename": path.removeprefix(repo + "/"), "size": len(content)}
            for path, content in self.state.files.items()
            if path.startswith(repo + "/")
        ]
        body = {
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "private": False,
            "siblings": siblings,
            "tags": [],
        }
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str) -> None:
        repo, _, name = path.partition("/resolve/main/")
        if self._refused(repo):
            return
        content = self.state.files.get(f"{repo}/{name}")
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        digest = hashlib.sha256(content).hexdigest()
        self._send(
            302,
            b"",
            {
                "Location": f"{self.state.storage_url}/store/{repo}/{name}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "ETag": '"pointer"',
            },
        )

    def _store(self, path: str) -> None:
        content = self.state.files[path]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        body = content[start:]
        if self.state.damage:
            body = bytes(byte ^ 1 for byte in body)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.state.cut_after_bytes is not None and self.state.cuts_left > 0:
            self.state.cuts_left -= 1
            self.wfile.write(body[: self.state.cut_after_bytes])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
