"""What everyone should know and no member owns: revocations, a new epoch, a dropped model's tombstone.

One notice per topic, the newest version wins; whether it is genuine (and not expired) is judged by the
injected `accept_notice`. Spread like any update, handed whole to newcomers. Source: spec, Trust and pinned 9.
"""

from nodes.mesh import codec, limits
from nodes.mesh.gossip_core import Core
from nodes.mesh.gossip_effects import PublishNotice
from nodes.mesh.gossip_events import NoticeIssued
from nodes.mesh.messages import Notice


class Notices:
    """The notices held by one node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held: dict[str, tuple[Notice, bytes]] = {}

    def issue(self, event: NoticeIssued) -> None:
        """Spread a notice of this node's own making; it must be one that others will accept."""
        notice = Notice(event.topic, event.version, event.body, event.expires_unix_s)
        if self._keep(notice, codec.encode_part(notice)):
            self._core.flood(self._held[event.topic][1])

    def hear(self, notice: Notice, raw: bytes) -> None:
        """Take a notice from a peer."""
        if self._keep(notice, raw):
            self._core.effects.append(PublishNotice(notice.topic, notice.version, notice.body))

    def _keep(self, notice: Notice, raw: bytes) -> bool:
        held = self._held.get(notice.topic)
        if held is not None and held[0].version >= notice.version:
            return False
        if not self._core.identity.accept_notice(notice.topic, notice.version, notice.body):
            self._core.counters["notices_refused"] += 1
            return False
        if held is None and len(self._held) >= limits.NOTICES_MAX:
            first = min(self._held.values(), key=lambda pair: pair[0].expires_unix_s)
            del self._held[first[0].topic]
        self._held[notice.topic] = (notice, raw)
        self._core.spread(f"notice {notice.topic}", raw)
        return True

    def encoded(self) -> tuple[bytes, ...]:
        """Return all, as they are embedded in a message."""
        return tuple(raw for _, raw in self._held.values())

    def versions(self) -> dict[str, int]:
        """Return the version held of each topic."""
        return {topic: notice.version for topic, (notice, _) in self._held.items()}
