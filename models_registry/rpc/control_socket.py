"""Messages, and sockets with them, over one local socket pair between the node and its lane process.

Knows no messages: bytes with a length before them, and file descriptors beside (SCM_RIGHTS), in the
order of the messages that say they carry one. Bounded: a message has a limit, and so has what waits to
be written; past either the connection ends, for it is one program at both ends.
"""

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable

_LENGTH_BYTES = 4
_READ_BYTES = 256 << 10
_SOCKETS_AT_ONCE = 16
WAITING_MAX_BYTES = 16 << 20
"""Bytes not taken by the other side yet; beyond that it is stuck, and the connection ends."""
SOCKETS_WAITING_MAX = 256


class ControlSocket:
    """One end. All methods on the loop."""

    def __init__(
        self,
        sock: socket.socket,
        max_bytes: int,
        on_message: Callable[[bytes], None],
        on_closed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._max_bytes = max_bytes
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._sockets: deque[int] = deque()
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """True when nothing comes or goes any more."""
        return self._closed

    def send(self, content: bytes, carried: socket.socket | None = None) -> None:
        """Send a message, and a copy of `carried` with it. Nothing happens after the end."""
        if self._closed:
            return
        assert len(content) <= self._max_bytes, f"a message of {len(content)} bytes"
        framed = len(content).to_bytes(_LENGTH_BYTES) + content
        # A copy: the caller may close its own before this one has left.
        descriptor = os.dup(carried.fileno()) if carried is not None else None
        self._waiting.append((framed, descriptor))
        self._waiting_bytes += len(framed)
        if self._waiting_bytes > WAITING_MAX_BYTES:
            self.close()
        elif len(self._waiting) == 1:
            self._writable()

    def take_socket(self) -> socket.socket:
        """Return the socket that came with the message that is handled now.

        Raises:
            ConnectionError: none came.
        """
        if not self._sockets:
            raise ConnectionError("a message without its socket")
        return socket.socket(fileno=self._sockets.popleft())

    def close(self) -> None:
        """End it; `on_closed` is told, once."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        left = [descriptor for _, descriptor in self._waiting if descriptor is not None]
        for descriptor in (*left, *self._sockets):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._waiting.clear()
        self._sockets.clear()
        self._on_closed()

    def _readable(self) -> None:
        try:
            content, descriptors, _, _ = socket.recv_fds(self._sock, _READ_BYTES, _SOCKETS_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            content, descriptors = b"", []
        self._sockets.extend(descriptors)
        self._received += content
        if not content or len(self._sockets) > SOCKETS_WAITING_MAX:
            self.close()
            return
        while not self._closed and (message := self._whole()) is not None:
            self._on_message(message)

    def _whole(self) -> bytes | None:
        """Return the message at the front, removed; None: it is not whole."""
        if len(self._received) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._received[:_LENGTH_BYTES])
        if length > self._max_bytes:
            self.close()
            return None
        end = _LENGTH_BYTES + length
        if len(self._received) < end:
            return None
        message = bytes(self._received[_LENGTH_BYTES:end])
        del self._received[:end]
        return message

    def _writable(self) -> None:
        """Write what waits, as far as the other side takes it."""
        while self._waiting:
            content, descriptor = self._waiting[0]
            try:
                count = self._write(content, descriptor)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            if descriptor is not None:
                os.close(descriptor)  # It went with the first byte.
            self._waiting_bytes -= count
            if count < len(content):
                self._waiting[0] = (content[count:], None)
            else:
                self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _write(self, content: bytes, descriptor: int | None) -> int:
        if descriptor is None:
            return self._sock.send(content)
        rights = array.array("i", [descriptor])
        return self._sock.sendmsg([content], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
