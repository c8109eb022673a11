"""The simulated network's streams: one request and its answer, each repeated until it arrives."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.mesh.gossip_effects import SendAnswer, SendRequest
from nodes.mesh.gossip_events import RequestAnswered, RequestFailed, RequestId, RequestReceived
from tests.sim.parts import SimLink, SimNode

if TYPE_CHECKING:
    from tests.sim.network import Network


class _Asked:
    """One request under way: answered, failed or timed out once."""

    __slots__ = ("effect", "link", "node", "open")

    def __init__(self, node: SimNode, effect: SendRequest) -> None:
        self.node = node
        self.effect = effect
        self.open = True
        self.link: SimLink | None = None


class Streams:
    """All requests of one network."""

    def __init__(self, network: "Network") -> None:
        self._net = network
        self._last = 0

    def ask(self, node: SimNode, effect: SendRequest) -> None:
        net, asked = self._net, _Asked(node, effect)

        def linked(link: SimLink) -> None:
            link.used_at = net.now
            asked.link = link
            net.at(net.now + net.reliable_lag(), self._arrives, asked)

        def failed(refused: bool) -> None:
            self._fail(asked, refused)

        net.at(net.now + effect.timeout_s, self._fail, asked, False)
        net.links.dial(node, effect.contact, effect.timeout_s, linked, failed, effect.fresh)

    def _fail(self, asked: _Asked, refused: bool) -> None:
        if asked.open:
            asked.open = False
            self._net.give(asked.node, RequestFailed(asked.effect.request, refused))

    def _arrives(self, asked: _Asked) -> None:
        net, node, link = self._net, asked.node, asked.link
        assert link is not None
        other = link.other(node)
        if not net.reaches(node, other) or other.links.get(node.node_id) is not link:
            return
        net.bytes += len(asked.effect.data)
        self._last += 1
        other.requests[self._last] = self._answering(asked, other)
        net.give(other, RequestReceived(node.node_id, RequestId(self._last), asked.effect.data))

    def _answering(self, asked: _Asked, other: SimNode) -> Callable[[bytes], None]:
        net = self._net

        def answer(data: bytes) -> None:
            net.at(net.now + net.reliable_lag(), self._answered, asked, other, data)

        return answer

    def _answered(self, asked: _Asked, other: SimNode, data: bytes) -> None:
        net, node = self._net, asked.node
        there = net.reaches(other, node) and node.links.get(other.node_id) is asked.link
        if asked.open and there:
            asked.open = False
            net.bytes += len(data)
            net.give(node, RequestAnswered(asked.effect.request, data))

    def answer(self, node: SimNode, effect: SendAnswer) -> None:
        answer = node.requests.pop(effect.request, None)
        if answer is not None:
            answer(effect.data)
