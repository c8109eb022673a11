"""What one client may cost the console's port, asked by raw sockets of a real Daphne."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings

from tests.fakes.console_thread import ConsoleThread


@pytest.fixture(scope="module")
def console() -> Iterator[ConsoleThread]:
    served = ConsoleThread()
    yield served
    served.end()


def _connect(console: ConsoleThread) -> socket.socket:
    port = int(console.url.rsplit(":", 1)[1])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _head(path: str = "/api/render", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _read_all(client: socket.socket) -> bytes:
    found = b""
    try:
        while piece := client.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def _bound(name: str) -> int:
    from meshsite import console_bounds

    return int(getattr(console_bounds, name))


def _set(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    monkeypatch.setattr(f"meshsite.console_bounds.{name}", value)


def test_django_takes_what_the_server_takes(console: ConsoleThread) -> None:
    assert _bound("BODY_MAX_BYTES") == settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_a_body_announced_too_long_is_refused_before_it_comes(console: ConsoleThread) -> None:
    with _connect(console) as client:
        client.sendall(_head("/", f"Content-Length: {_bound('BODY_MAX_BYTES') + 1}"))
        answer = _read_all(client)
    assert _status(answer) == 413
    assert b"connection: close" in answer.lower()


def test_a_waiting_client_is_not_told_to_go_on_with_too_long_a_body(console: ConsoleThread) -> None:
    with _connect(console) as client:
        client.sendall(_head("/", "Content-Length: 99999999999", "Expect: 100-continue"))
        assert _status(_read_all(client)) == 413


def test_a_chunked_body_without_end_is_cut_off(console: ConsoleThread) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    began = time.monotonic()
    with _connect(console) as client:
        client.sendall(_head("/", "Transfer-Encoding: chunked"))
        with pytest.raises(OSError):  # reset or broken pipe: closed either way
            while time.monotonic() - began < 10:
                client.sendall(piece)
                time.sleep(0.005)


def test_the_refusal_of_a_chunked_body_can_be_read(console: ConsoleThread) -> None:
    with _connect(console) as client:
        client.sendall(_head("/", "Transfer-Encoding: chunked"))
        left = _bound("BODY_MAX_BYTES") + 1
        while left > 0:
            size = min(left, 0x40000)
            client.sendall(b"%x\r\n%s\r\n" % (size, b"x" * size))
            left -= size
        client.sendall(b"0\r\n\r\n")
        answer = _read_all(client)
    assert _status(answer) == 413
    assert answer.count(b"HTTP/1.1") == 1


def test_a_body_at_the_bound_reaches_the_view(console: ConsoleThread) -> None:
    size = _bound("BODY_MAX_BYTES")
    with _connect(console) as client:
        client.sendall(
            _head("/api/actions", f"Content-Length: {size}", "Connection: close") + b"x" * size
        )
        answer = _read_all(client)
    assert _status(answer) == 403  # the view's own refusal, not the server's


def test_headers_in_all_are_bounded(console: ConsoleThread) -> None:
    many = [f"X-{n}: {'y' * 8000}" for n in range(8)]
    with _connect(console) as client:
        client.sendall(_head("/health", *many))
        assert _status(_read_all(client)) == 400


def test_one_endless_header_line_is_cut_off(console: ConsoleThread) -> None:
    with _connect(console) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        with pytest.raises(OSError):  # reset or broken pipe: closed either way
            for _ in range(2000):
                client.sendall(b"y" * 65536)


def test_dripping_headers_time_out(console: ConsoleThread, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, "HEADERS_DEADLINE_S", 0.5)
    with _connect(console) as client:
        began = time.monotonic()
        client.settimeout(0.1)
        answer = b""
        while time.monotonic() - began < 8 and not answer:
            try:
                client.sendall(b"G")
                answer = client.recv(4096)
            except TimeoutError:
                continue
    assert _status(answer) == 408
    assert time.monotonic() - began < 5


def test_a_dripping_body_times_out(console: ConsoleThread, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, "BODY_DEADLINE_S", 0.5)
    with _connect(console) as client:
        client.sendall(_head("/", "Content-Length: 1000") + b"x")
        began = time.monotonic()
        answer = _read_all(client)
    assert _status(answer) == 408
    assert time.monotonic() - began < 5


def test_a_silent_connection_is_closed(
    console: ConsoleThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, "HEADERS_DEADLINE_S", 0.3)
    _set(monkeypatch, "IDLE_S", 0.3)
    with _connect(console) as silent, _connect(console) as used:
        used.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _status(_read_all(used)) == 200
        assert _read_all(silent) == b""


def test_connections_are_bounded_and_room_comes_back(
    console: ConsoleThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.close()
    console.open()
    _set(monkeypatch, "CONNECTIONS_MAX", 4)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(_connect(console))
        with _connect(console) as refused:
            assert _status(_read_all(refused)) == 503
    deadline = time.monotonic() + 5
    while True:
        with _connect(console) as again:
            again.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if _status(_read_all(again)) == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_websocket_counts_as_a_connection_and_leaves_room_when_it_ends(
    console: ConsoleThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.close()
    console.open()
    _set(monkeypatch, "CONNECTIONS_MAX", 1)
    with _connect(console) as live:
        live.sendall(
            b"GET /ws/topology HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert _status(live.recv(4096)) == 101
        with _connect(console) as refused:
            assert _status(_read_all(refused)) == 503
    deadline = time.monotonic() + 5
    while True:
        with _connect(console) as again:
            again.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if _status(_read_all(again)) == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_requests_one_after_another_on_one_connection_are_answered(console: ConsoleThread) -> None:
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with _connect(console) as client:
        client.sendall(ask + ask + last)
        assert _read_all(client).count(b"HTTP/1.1 200") == 3
