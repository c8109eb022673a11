"""An engine whose faults come on demand: speaks just enough HTTP to become ready, then misbehaves.

`python scripted_engine.py --port N [--say TEXT] [--exit CODE] [--busy-once FILE] [--deaf-to-term]
[--token-status N] [--slots-status N] [--silent-when FILE] [--spin] [--busy-slots-while FILE]`
"""

import argparse
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--say", default="")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--busy-once", type=Path)
    parser.add_argument("--deaf-to-term", action="store_true")
    parser.add_argument("--token-status", type=int, default=200)
    parser.add_argument("--slots-status", type=int, default=200)
    parser.add_argument("--silent-when", type=Path)
    parser.add_argument("--spin", action="store_true")
    parser.add_argument("--busy-slots-while", type=Path)
    return parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    """Answers what the supervisor asks."""

    asked: argparse.Namespace

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path == "/health":
            return self._answer(200, {"status": "ok"})
        if self.path == "/props":
            return self._answer(
                200, {"total_slots": 2, "default_generation_settings": {"n_ctx": 512}}
            )
        silent = self.asked.silent_when
        while silent and silent.exists():
            _spin(0.05) if self.asked.spin else time.sleep(0.05)
        busy = self.asked.busy_slots_while
        working = bool(busy and busy.exists())
        return self._answer(self.asked.slots_status, [{"id": 0, "is_processing": working}])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.asked.token_status, {"choices": [{"text": "a"}]})


def _spin(for_s: float) -> None:
    until = time.thread_time() + for_s
    while time.thread_time() < until:
        pass


def main() -> int:
    asked = options()
    if asked.deaf_to_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if asked.say:
        sys.stdout.buffer.write(asked.say.encode().decode("unicode_escape").encode("latin-1"))
        sys.stdout.buffer.flush()
    if asked.busy_once and not asked.busy_once.exists():
        asked.busy_once.touch()
        print("E srv start: couldn't bind HTTP server socket", flush=True)
        return 1
    if asked.exit is not None:
        return int(asked.exit)
    Handler.asked = asked
    server = ThreadingHTTPServer(("127.0.0.1", asked.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
