"""One client connection of the fake llama-server: raw asyncio, httptools, answers rendered ahead.

Only the callbacks that are needed exist (no headers are read), because each one costs a Python call per
request and this server must never be the bottleneck of a measurement.
"""

import asyncio
from typing import cast

import httptools

from tests.fakes.fake_engine import answers, pages
from tests.fakes.fake_engine.pages import Server
from tests.fakes.fake_engine.requests import Ask, read_ask
from tests.fakes.fake_engine.streams import Stream

PIPELINE_MAX = 64
"""Requests waiting behind a stream of their own connection; more closes it."""

_CHAT = b"/v1/chat/completions"
_COMPLETIONS = frozenset((b"/v1/completions", b"/completions", b"/completion"))


class EngineProtocol(asyncio.Protocol):
    """Parses requests and answers them in order."""

    __slots__ = ("_body", "_parser", "_path", "_server", "_stream", "_transport", "_waiting")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._path = b""
        self._body = b""
        self._stream: Stream | None = None
        self._waiting: list[tuple[bytes, bytes, bytes, bool]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._server.feed.counters.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._server.feed.end(self._stream, dropped=False, cancelled=True)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(answers.error(400, "not HTTP", "invalid_request_error"))
            self._transport.close()

    def pause_writing(self) -> None:
        if self._stream is not None:
            self._stream.paused = True

    def resume_writing(self) -> None:
        if self._stream is not None and self._stream.paused:
            self._server.feed.resume(self._stream)

    # httptools' callbacks

    def on_url(self, url: bytes) -> None:
        self._path = url
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        parser = self._parser
        request = parser.get_method(), self._path, self._body, parser.should_keep_alive()
        if self._stream is None:
            self._answer(*request)
        elif len(self._waiting) < PIPELINE_MAX:
            self._waiting.append(request)
        else:
            self._transport.close()

    def _answer(self, method: bytes, path: bytes, body: bytes, keep_alive: bool) -> None:
        server = self._server
        server.feed.counters.requests += 1
        path = path.partition(b"?")[0]
        chat = path == _CHAT
        if server.loading and not path.startswith(b"/fake/"):
            self._transport.write(answers.LOADING)
        elif method == b"POST" and (chat or path in _COMPLETIONS):
            ask = read_ask(body)
            if ask is None:
                self._transport.write(answers.error(500, "the body is not JSON", "server_error"))
            else:
                self._complete(ask, chat)
        else:
            self._transport.write(pages.page(server, method, path))
        if self._stream is None and not keep_alive:
            self._transport.close()

    def _complete(self, ask: Ask, chat: bool) -> None:
        server = self._server
        model = ask.model or server.model
        if ask.fake.status != 200:
            self._transport.write(answers.error(ask.fake.status, "as asked", "fake_error"))
        elif not ask.stream:
            self._transport.write(answers.whole(model, chat, ask.tokens))
        else:
            # The field is set before the first write: a full socket pauses the stream in that write.
            self._stream = stream = Stream(self._transport, ask, chat, model, server.feed)
            stream.on_end = self._stream_ended
            server.feed.add(stream, ask.fake.first_token_s)

    def _stream_ended(self, dropped: bool) -> None:
        self._stream = None
        if dropped or self._server.close_after_stream:
            self._transport.close()
            return
        while self._waiting and not self._streaming():
            self._answer(*self._waiting.pop(0))

    def _streaming(self) -> bool:
        return self._stream is not None
