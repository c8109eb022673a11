"""One client's connection: its requests answered in order, and every way it can end.

Decides when reading stops, when the connection is kept, and what is cut off when; `front_parser`
knows the bytes, `front_exchange` one request, `front` sweeps the deadlines of all connections.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from proxy.front_exchange import FrontExchange, status_line
from proxy.front_half_close import watch_half_closed
from proxy.front_parser import RequestHead, RequestParser
from proxy.openai import Fault, FaultKind, fault_answer

if TYPE_CHECKING:
    from proxy.front import ApiServer

log = logging.getLogger(__name__)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HttpConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: "ApiServer") -> None:
        self._server = server
        self._config = server.config
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(self, self._config.head_limit_bytes, self._loop.time)
        self._queue: deque[FrontExchange] = deque()
        """Requests in order; the first is being answered."""
        self._incoming: FrontExchange | None = None
        """The request whose body is arriving."""
        self._task: asyncio.Task[None] | None = None
        self._base_scope: dict[str, Any] = {}
        self._idle_since_s = self._loop.time()
        self._no_more = False
        """Nothing that still arrives is looked at."""
        self._half_closed = False
        self._read_paused = False
        self._lingering_since_s: float | None = None
        self.write_paused = False
        """Whether the client reads more slowly than it is written to."""
        self._write_paused_s = 0.0
        self._drain: asyncio.Future[None] | None = None

    # --- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        self._transport = stream
        config = self._config
        stream.set_write_buffer_limits(config.write_high_water_bytes, config.write_low_water_bytes)
        self._base_scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "http",
            "root_path": "",
            "client": _address(stream.get_extra_info("peername")),
            "server": _address(stream.get_extra_info("sockname")),
        }
        if not self._server.admit(self):
            text = "Too many open connections; try again shortly."
            retry = config.retry_after_s
            self._refuse(Fault(FaultKind.OVERLOADED, text, retry_after_s=retry))

    def data_received(self, data: bytes) -> None:
        if self._no_more:
            return
        try:
            if not self._parser.feed(data):
                self._no_more = True
        except Fault as fault:
            self._refuse(fault)
        self._next()

    def eof_received(self) -> bool:
        transport = self._transport
        if self._lingering_since_s is not None or not self._queue or transport is None:
            return False
        if self._incoming is not None:
            self.abort()  # its body will never be whole
            return False
        self._half_closed = self._no_more = True
        watch_half_closed(transport, self._config.half_close_probe_s, self._probe_bytes)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser.close()
        self._server.forget(self)
        self._no_more = True
        for exchange in self._queue:
            exchange.disconnect()
        self._queue.clear()
        self._incoming = None
        self.resume_writing()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._write_paused_s = self._loop.time()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    # --- RequestSink -----------------------------------------------------------------------------

    def request_began(self, head: RequestHead) -> None:
        exchange = FrontExchange(self, {**self._base_scope, **head.scope}, self._loop.time())
        exchange.keep_alive = head.keep_alive
        exchange.expects_continue = head.expects_continue
        self._incoming = exchange
        self._queue.append(exchange)

    def request_body(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.add_body(data)

    def request_ended(self) -> None:
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.finish_body()
            self._no_more = self._no_more or not exchange.keep_alive

    # --- requests in order -----------------------------------------------------------------------

    def _next(self) -> None:
        """Start the next request if none runs; stop reading or go on."""
        if self._task is None and self._queue:
            exchange = self._queue[0]
            if exchange.canned is None:
                self._task = self._loop.create_task(self._run(exchange))
            else:
                self.write(exchange.canned)
                self._queue.clear()
                self._end(linger=True)
                return
        self._adjust_reading()

    async def _run(self, exchange: FrontExchange) -> None:
        try:
            await self._server.app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception as error:
            self._server.note_failure(error)
            if not exchange.started and exchange.canned is None:
                exchange.can(self._canned(Fault(FaultKind.BROKEN, "The node failed; see its log.")))
        finally:
            self._task = None
            exchange.release()
            self._answered(exchange)

    def _answered(self, exchange: FrontExchange) -> None:
        if not self._queue:
            return  # the client has gone
        if exchange.canned is not None and not exchange.started:
            self._next()
            return
        if not exchange.answer_done:
            self.abort()  # an answer left unfinished must never look whole
            return
        self._queue.popleft()
        self._idle_since_s = self._loop.time()
        if not exchange.keep_alive:
            self._queue.clear()
            self._end(linger=not exchange.body_done)
        elif self._no_more and not self._queue:
            self._end(linger=False)
        else:
            self._next()

    def may_keep_alive(self, exchange: FrontExchange) -> bool:
        """Return whether the connection can carry another request after this answer."""
        if not exchange.body_done or self._server.stopping:
            return False  # after an early answer the rest of the body is not worth reading
        return not self._no_more or len(self._queue) > 1

    def body_taken(self) -> None:
        """The application took body bytes: perhaps read on."""
        if self._read_paused:
            self._parser.body_moved_s = self._loop.time()
            self._adjust_reading()

    def _adjust_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._half_closed:
            return
        config = self._config
        queue = self._queue
        full = len(queue) > config.pipelined_limit
        if not full and queue:
            full = sum(e.buffered for e in queue) > config.read_high_water_bytes
        if full != self._read_paused:
            self._read_paused = full
            if full:
                transport.pause_reading()
            else:
                transport.resume_reading()

    # --- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write to the client."""
        if self._transport is not None:
            self._transport.write(data)

    def write_parts(self, parts: list[bytes]) -> None:
        """Write several pieces without joining them."""
        if self._transport is not None:
            self._transport.writelines(parts)

    def date_line(self) -> bytes:
        """Return the Date header's line."""
        return self._server.date_line

    async def drained(self) -> None:
        """Wait until the client has read enough, or has gone."""
        if self._drain is None or self._drain.done():
            self._drain = self._loop.create_future()
        await self._drain

    def _canned(self, fault: Fault) -> bytes:
        status, headers, body = fault_answer(fault)
        lines = [status_line(status), self.date_line()]
        lines += [b"%b: %b\r\n" % header for header in headers]
        return b"".join((*lines, b"connection: close\r\n\r\n", body))

    def _refuse(self, fault: Fault) -> None:
        """Answer with an error after the answers before it, and close."""
        incoming, self._incoming = self._incoming, None
        self._no_more = True
        self._parser.head_began_s = None
        if incoming is None:
            incoming = FrontExchange(self, {}, self._loop.time())
            self._queue.append(incoming)
        elif incoming.started:
            self.abort()  # already being answered: only the cut is left to say it
            return
        incoming.can(self._canned(fault))
        self._next()

    # --- endings ---------------------------------------------------------------------------------

    def _end(self, *, linger: bool) -> None:
        """Close. Lingering throws away what still arrives: a reset would eat the answer."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._no_more = True
        self._incoming = None
        if not linger or self._half_closed:
            transport.close()
            return
        self._lingering_since_s = self._loop.time()
        if transport.can_write_eof():
            transport.write_eof()
        self._adjust_reading()

    def abort(self) -> None:
        """Cut the connection so that the client sees it: with a reset, never like a clean end."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def close_when_idle(self) -> None:
        """The server stops: close now if no request runs, else after it."""
        self._no_more = self._no_more or self._incoming is None
        if not self._queue:
            self._end(linger=False)

    def _probe_bytes(self) -> bytes:
        return self._queue[0].probe_bytes() if self._queue else b""

    def sweep(self, now: float) -> None:
        """End what has waited too long; called by the server every `sweep_interval_s`."""
        config = self._config
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        head_began_s = self._parser.head_began_s
        if self._lingering_since_s is not None:
            if now - self._lingering_since_s > config.linger_deadline_s:
                transport.abort()
        elif self._answer_overdue(now):
            self.abort()
        elif self._incoming is not None:
            self._sweep_body(self._incoming, now)
        elif head_began_s is not None:
            if now - head_began_s > config.head_deadline_s:
                text = f"The headers were not complete within {config.head_deadline_s:g} s."
                self._refuse(Fault(FaultKind.TIMED_OUT, text))
        elif not self._queue and now - self._idle_since_s > config.keep_alive_deadline_s:
            transport.close()

    def _answer_overdue(self, now: float) -> bool:
        config = self._config
        if self.write_paused and now - self._write_paused_s > config.write_stall_deadline_s:
            return True
        return bool(self._queue) and now - self._queue[0].began_s > config.total_deadline_s

    def _sweep_body(self, incoming: FrontExchange, now: float) -> None:
        config = self._config
        silent_s = 0.0 if self._read_paused else now - self._parser.body_moved_s
        if (
            silent_s > config.body_idle_deadline_s
            or now - incoming.began_s > config.body_deadline_s
        ):
            self._refuse(Fault(FaultKind.TIMED_OUT, "The body did not arrive in time."))


def _address(value: Any) -> tuple[str, int] | None:
    return (str(value[0]), int(value[1])) if isinstance(value, tuple) else None
