"""Hosts on other machines whose faults come on demand: an `UpstreamClient` without a network.

Each node has a script: a list of what it does in turn, the last one for ever. What happened is in `story`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from nodes.mesh.ids import NodeId
from nodes.mesh.routing import Upstream
from proxy.upstream import Header, OutboundRequest, UpstreamError, UpstreamTrouble


@dataclass(frozen=True)
class Answers:
    """Answers so."""

    status: int = 200
    body: bytes = b'{"ok":true}'
    after_s: float = 0.0


@dataclass(frozen=True)
class Fails:
    """Fails so, before any byte."""

    trouble: UpstreamTrouble = UpstreamTrouble.DIED
    text: str = ""
    after_s: float = 0.0
    progress: float | None = None


@dataclass(frozen=True)
class Hangs:
    """Says nothing, ever."""


@dataclass(frozen=True)
class BreaksOff:
    """Begins a stream of events, then fails so."""

    trouble: UpstreamTrouble = UpstreamTrouble.LINK_LOST


Deed = Answers | Fails | Hangs | BreaksOff


class FakeAnswer:
    """An `Answer` that is all there, or breaks off."""

    def __init__(self, deed: Answers | BreaksOff, on_close: Callable[[], None]) -> None:
        self.status = deed.status if isinstance(deed, Answers) else 200
        kind = b"application/json" if isinstance(deed, Answers) else b"text/event-stream"
        self.headers: list[Header] = [(b"content-type", kind)]
        self._deed = deed
        self._pieces = [deed.body if isinstance(deed, Answers) else b"data: {}\n\n"]
        self._on_close = on_close

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop()
        if isinstance(self._deed, BreaksOff):
            raise UpstreamError(self._deed.trouble)
        return b""

    async def pump(self, sink: Callable[[bytes], bool]) -> None:
        return

    def close(self) -> None:
        self._on_close()

    def fail(self, error: Exception) -> None:
        raise AssertionError("nobody fails an answer from outside here")


@dataclass
class FakeHosts:
    """An `UpstreamClient`: nodes by id, each with its script."""

    scripts: dict[NodeId, list[Deed]] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    """``ask NAME``, ``left NAME`` (given up by the asker), ``end NAME`` (let go after an answer)."""
    asked: Counter[str] = field(default_factory=Counter)
    open_now: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    """Most hosts that were busy with requests at the same time."""

    def does(self, upstream: Upstream, *deeds: Deed) -> Upstream:
        """Give a node its script."""
        self.scripts[upstream.node_id] = list(deeds)
        return upstream

    async def open(self, upstream: Upstream, request: OutboundRequest) -> FakeAnswer:
        name = upstream.name
        script = self.scripts.get(upstream.node_id) or [Answers()]
        deed = script.pop(0) if len(script) > 1 else script[0]
        self.story.append(f"ask {name}")
        self.asked[name] += 1
        self.open_now[name] += 1
        self.most_at_once = max(self.most_at_once, self.open_now.total())
        try:
            return await self._do(deed, name)
        except UpstreamError:
            self.open_now[name] -= 1
            raise
        except asyncio.CancelledError:
            self.open_now[name] -= 1
            self.story.append(f"left {name}")
            raise

    async def _do(self, deed: Deed, name: str) -> FakeAnswer:
        match deed:
            case Hangs():
                await asyncio.get_running_loop().create_future()
                raise AssertionError("a future that nobody sets was set")
            case Fails(trouble, text, after_s, progress):
                if after_s:
                    await asyncio.sleep(after_s)
                raise UpstreamError(trouble, text, progress)
            case Answers():
                if deed.after_s:
                    await asyncio.sleep(deed.after_s)

        def closed() -> None:
            self.open_now[name] -= 1
            self.story.append(f"end {name}")

        return FakeAnswer(deed, closed)
