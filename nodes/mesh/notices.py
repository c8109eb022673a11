"""What everyone should know and no member owns: revocations, a new epoch, a dropped model's tombstone.

One notice per topic, the newest version wins; whether it is genuine is judged by the injected
`accept_notice`, whether it has expired by this node's Unix time. Spread like any update; part of the
table's hash, so that whoever missed one is given it by the next sync. At the bound those that expire last
are kept, on every node the same ones. Source: spec, Trust and pinned 9; Demers et al. 1987 (death
certificates).
"""

import hashlib

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.gossip_core import Core
from nodes.mesh.gossip_effects import PublishNotice
from nodes.mesh.gossip_events import NoticeIssued
from nodes.mesh.messages import Notice

_SWEEP_S = 60.0


class _Held:
    __slots__ = ("hash62", "notice", "raw")

    def __init__(self, notice: Notice, raw: bytes) -> None:
        self.notice = notice
        self.raw = raw
        self.hash62 = int.from_bytes(hashlib.sha256(raw).digest()[:8]) >> 2

    @property
    def order(self) -> tuple[int, str]:
        """Who has the smallest is dropped first; the same on every node."""
        return self.notice.expires_unix_s, self.notice.topic


class Notices:
    """The notices held by one node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held: dict[str, _Held] = {}
        core.timers.at(core.now + _SWEEP_S, self._sweep)

    def issue(self, event: NoticeIssued) -> None:
        """Spread a notice of this node's own making; it must be one that others will accept."""
        core = self._core
        notice = Notice(event.topic, event.version, event.body, event.expires_unix_s)
        newer = event.version > self.versions().get(event.topic, -1)
        if self._keep(notice, codec.encode_part(notice)):
            core.flood(self._held[event.topic].raw)
        elif newer:
            text = (
                f"the notice {event.topic} was not spread: it has expired, or is not ours to give"
            )
            core.story("notice_refused", core.self_id, text, "warning")

    def hear(self, notice: Notice, raw: bytes) -> None:
        """Take a notice from a peer."""
        newer = notice.version > self.versions().get(notice.topic, -1)
        if self._keep(notice, raw) and newer:
            self._core.effects.append(PublishNotice(notice.topic, notice.version, notice.body))

    def _keep(self, notice: Notice, raw: bytes) -> bool:
        """Hold and spread it, if it is news, valid, genuine and there is room; return whether it is held."""
        core = self._core
        before = self._held.get(notice.topic)
        # Of two of one version the same one wins everywhere, else tables would never be equal again.
        if before is not None and (before.notice.version, before.raw) >= (notice.version, raw):
            return False
        if notice.expires_unix_s <= core.unix_s:
            core.counters["notices_expired"] += 1
            return False
        held, replaced = _Held(notice, raw), before
        if before is None and len(self._held) >= limits.NOTICES_MAX:
            replaced = min(self._held.values(), key=lambda h: h.order)
            if held.order <= replaced.order:
                core.counters["notices_dropped"] += 1
                return False
        if not core.identity.accept_notice(notice.topic, notice.version, notice.body):
            core.counters["notices_refused"] += 1
            return False
        if replaced is not None:
            self._forget(replaced)
        self._held[notice.topic] = held
        core.table_hash ^= held.hash62
        core.spread(_subject(notice.topic), raw)
        return True

    def _forget(self, held: _Held) -> None:
        del self._held[held.notice.topic]
        self._core.table_hash ^= held.hash62
        self._core.broadcasts.drop(_subject(held.notice.topic))

    def _sweep(self, _: None) -> None:
        """Forget what has expired."""
        core = self._core
        core.timers.at(core.now + _SWEEP_S, self._sweep)
        for held in tuple(self._held.values()):
            if held.notice.expires_unix_s <= core.unix_s:
                self._forget(held)

    def encoded(self) -> tuple[bytes, ...]:
        """Return all, as they are embedded in a message."""
        return tuple(held.raw for held in self._held.values())

    def lacking(self, theirs: tuple[msgspec.Raw, ...]) -> list[bytes]:
        """Return those that are not among a peer's."""
        known = {bytes(raw) for raw in theirs}
        return [held.raw for held in self._held.values() if held.raw not in known]

    def versions(self) -> dict[str, int]:
        """Return the version held of each topic."""
        return {topic: held.notice.version for topic, held in self._held.items()}


def _subject(topic: str) -> str:
    return f"notice {topic}"
