"""From "somebody missed it" to "dead": suspicion that shrinks with confirmations, ended by a real round trip.

A suspicion lasts between the shortest and the longest time of `GossipConfig.suspicion_timeout_s`; each
independent accuser shortens it. Nobody is declared dead on hearsay, nor by a clock alone: in the last
`verify_timeout_s` this node asks the suspect itself over a reliable stream, dialling if it must, and an
answer (or any answered probe since the suspicion began) ends the matter here, while the subject refutes it
everywhere. A reported death skips the wait but not the round trip (pinned 11: <= 3 s). What a stalled
observer missed is no evidence. Source: SWIM 4.2, Lifeguard 4.2 (LHA-Suspicion) and 4.3 (buddy system).
"""

from collections import deque

import msgspec

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core, Member
from nodes.mesh.gossip_effects import MemberState
from nodes.mesh.ids import NodeId
from nodes.mesh.membership import Membership
from nodes.mesh.messages import Accusation, Check, CheckAnswer, StreamMessage
from nodes.mesh.port_evidence import PortEvidence
from nodes.mesh.records import parse_record
from nodes.mesh.timers import Timer

_POSTPONED_MAX = 5


class Suspicion:
    """One member under suspicion, as this node sees it."""

    __slots__ = ("accusers", "checking", "deadline", "incarnation", "postponed", "raw", "reported",
                 "since", "timer", "unreachable", "used")  # fmt: skip

    def __init__(self, incarnation: int, now: float) -> None:
        self.incarnation = incarnation
        self.since = now
        self.deadline = now
        self.accusers: dict[bytes, None] = {}
        self.raw = b""
        """The first accusation: rides on every ping to the suspect, so that it can refute."""
        self.timer: Timer | None = None
        self.checking = False
        self.unreachable = False
        """The round trip failed."""
        self.reported = False
        """Another node says that it verified the death."""
        self.used = False
        """A request of this node, or its heartbeats, failed: the verification is most of the wait."""
        self.postponed = 0


class _Check:
    """One verification: the ways on which it runs, and whether it is decided."""

    __slots__ = ("open", "over", "started", "suspicion")

    def __init__(self, suspicion: Suspicion, ways: int, now: float) -> None:
        self.suspicion = suspicion
        self.open = ways
        self.over = False
        self.started = now


class Suspicions:
    """All suspects of one node."""

    def __init__(self, core: Core, membership: Membership, ports: PortEvidence) -> None:
        self._core = core
        self._membership = membership
        self._ports = ports
        self.suspects: dict[NodeId, Suspicion] = {}
        self._checking = 0
        self._waiting: deque[NodeId] = deque()

    # --- accusations -----------------------------------------------------

    def accuse(self, node_id: NodeId) -> None:
        """This node itself could not reach a member, directly or through relays."""
        core = self._core
        member = core.members.get(node_id)
        if member is None:
            return
        claim = member.record.claim
        accusation = Accusation(
            claim.node_id, claim.incarnation, False, bytes.fromhex(core.self_id)
        )
        self.hear(accusation, msgspec.msgpack.encode(accusation), core.self_id)

    def hear(self, accusation: Accusation, raw: bytes, source: NodeId) -> None:
        """Take an accusation from anyone, this node included."""
        core, node_id = self._core, NodeId(accusation.node_id.hex())
        if node_id == core.self_id:
            self._membership.own.refute(accusation.incarnation)
            return
        member = core.members.get(node_id)
        if member is None or accusation.incarnation < member.record.claim.incarnation:
            return
        suspicion = self.suspects.get(node_id)
        if suspicion is None:
            suspicion = self._suspect(member, accusation, raw)
        elif not self._confirm(suspicion, accusation) and not accusation.dead:
            return
        core.spread(node_id, raw, accuser=accusation.accuser.hex())
        if accusation.dead and not suspicion.reported:
            suspicion.reported = True
            core.flood(raw, but=source)
            if accusation.refused:
                self._ports.probe(node_id)
            self._set_timer(node_id, suspicion, core.now + self._report_wait_s(node_id))
        else:
            self._schedule(node_id, suspicion)

    def unheard(self, node_id: NodeId) -> None:
        """A request to a member failed, or its heartbeats did: ask it at once, without suspicion time."""
        self.accuse(node_id)
        suspicion = self.suspects.get(node_id)
        if suspicion is not None and not suspicion.reported:
            suspicion.reported = True
            suspicion.used = True
            self._ports.probe(node_id)
            self._set_timer(node_id, suspicion, self._core.now)

    def _suspect(self, member: Member, accusation: Accusation, raw: bytes) -> Suspicion:
        core, node_id = self._core, member.record.node_id
        suspicion = Suspicion(member.record.claim.incarnation, core.now)
        suspicion.raw = raw
        suspicion.accusers[accusation.accuser] = None
        self.suspects[node_id] = suspicion
        member.state = MemberState.SUSPECT
        core.touch(node_id)
        accuser = core.name(NodeId(accusation.accuser.hex()))
        core.story(
            "suspected", node_id, f"{core.name(node_id)} is suspected by {accuser}", "warning"
        )
        return suspicion

    def _confirm(self, suspicion: Suspicion, accusation: Accusation) -> bool:
        if accusation.accuser in suspicion.accusers:
            return False
        if len(suspicion.accusers) >= limits.ACCUSERS_MAX:
            return False
        suspicion.accusers[accusation.accuser] = None
        return len(suspicion.accusers) - 1 <= max(1, int(self._core.config.suspicion_mult) - 2)

    def _report_wait_s(self, node_id: NodeId) -> float:
        """A linked member is asked at once; others after a random wait, in which a refutation may come."""
        core = self._core
        if node_id in core.links:
            return 0.0
        return core.rng.uniform(0.0, min(0.5, core.config.return_spread_s * core.size))

    # --- time ------------------------------------------------------------

    def _schedule(self, node_id: NodeId, suspicion: Suspicion) -> None:
        if suspicion.reported:
            return
        core = self._core
        config = core.config
        timeout = config.suspicion_timeout_s(core.size, len(suspicion.accusers) - 1)
        floor = core.stalled_at + config.stall_grace_s
        suspicion.deadline = max(suspicion.since + timeout, floor)
        self._set_timer(node_id, suspicion, suspicion.deadline - config.verify_timeout_s)

    def _set_timer(self, node_id: NodeId, suspicion: Suspicion, when: float) -> None:
        if suspicion.timer is not None:
            suspicion.timer.cancel()
        when = max(when, self._core.now)
        suspicion.timer = self._core.timers.at(when, self._due, node_id)

    def _due(self, node_id: NodeId) -> None:
        suspicion = self.suspects.get(node_id)
        if suspicion is None or suspicion.checking:
            return
        link = self._core.links.get(node_id)
        heard = link is not None and link.acked_at > suspicion.since
        if heard and not suspicion.reported:
            self.clear(node_id, "answered")
        elif suspicion.unreachable:
            self._die(node_id, suspicion)
        else:
            self._verify(node_id, suspicion)

    def stalled(self) -> None:
        """This process was stalled until now: give the suspects' answers time to be read."""
        core = self._core
        earliest = core.now + core.config.stall_grace_s
        for node_id, suspicion in self.suspects.items():
            suspicion.unreachable = False
            suspicion.deadline = max(suspicion.deadline, earliest)
            if not suspicion.checking:
                begin = max(earliest, suspicion.deadline - core.config.verify_timeout_s)
                self._set_timer(node_id, suspicion, begin)

    # --- the round trip --------------------------------------------------

    def _verify(self, node_id: NodeId, suspicion: Suspicion) -> None:
        if self._checking >= limits.VERIFICATIONS_IN_FLIGHT_MAX:
            if len(self._waiting) < limits.MEMBERS_MAX:
                self._waiting.append(node_id)
            return
        core = self._core
        link = core.links.get(node_id)
        suspicion.checking = True
        self._checking += 1
        # A silent link may be one that only this end still holds (the peer closed it while they were
        # apart, or was restarted): a new connection is tried beside it. Seed 188.
        ways = (False,) if link is None or link.acked_at > suspicion.since else (False, True)
        check = _Check(suspicion, len(ways), core.now)
        timeout_s = core.config.verify_timeout_s
        if suspicion.used:
            ends = suspicion.since + core.config.use_verify_timeout_s
            timeout_s = max(timeout_s, ends - core.now)
        for fresh in ways:
            core.request(
                core.contact(node_id),
                Check(suspicion.incarnation),
                timeout_s,
                lambda answer, refused: self._came_back(node_id, check, answer, refused),
                fresh,
            )

    def _came_back(self, node_id: NodeId, check: _Check, answer: StreamMessage | None,
                   refused: bool) -> None:  # fmt: skip
        """One way brought an answer, or none: the first answer counts, or the last failure."""
        check.open -= 1
        if refused:
            self._ports.refused(node_id, None)
        if check.over or (check.open and not isinstance(answer, CheckAnswer)):
            return
        check.over = True
        self._checking -= 1
        if self.suspects.get(node_id) is check.suspicion:
            check.suspicion.checking = False
            self._verified(node_id, check.suspicion, answer, check.started)
        self._next_waiting()

    def _next_waiting(self) -> None:
        while self._waiting:
            node_id = self._waiting.popleft()
            if node_id in self.suspects:
                self._core.timers.at(self._core.now, self._due, node_id)
                return

    def _verified(self, node_id: NodeId, suspicion: Suspicion, answer: StreamMessage | None,
                  started: float) -> None:  # fmt: skip
        core = self._core
        if isinstance(answer, CheckAnswer):
            record = parse_record(bytes(answer.me))
            if record is not None and record.node_id == node_id:
                self._membership.learn(record, node_id)
            if node_id in self.suspects:
                self.clear(node_id, "answered")
            return
        link = core.links.get(node_id)
        if link is not None and link.acked_at > started:
            # It met us, or answered a probe, while its answer to this question was lost. Seed 413.
            self.clear(node_id, "answered")
            return
        if core.stalled_at >= started and suspicion.postponed < _POSTPONED_MAX:
            suspicion.postponed += 1
            self._set_timer(node_id, suspicion, core.now + core.config.stall_grace_s)
            return
        suspicion.unreachable = True
        if suspicion.reported or core.now >= suspicion.deadline:
            self._die(node_id, suspicion)
        else:
            self._set_timer(node_id, suspicion, suspicion.deadline)

    # --- ends ------------------------------------------------------------

    def _die(self, node_id: NodeId, suspicion: Suspicion) -> None:
        core = self._core
        names = ", ".join(core.name(NodeId(a.hex())) for a in suspicion.accusers)
        text = f"no answer for {core.now - suspicion.since:.1f} s; suspected by {names}"
        self._membership.die(node_id, text)

    def clear(self, node_id: NodeId, why: str) -> None:
        """End a suspicion: the member answered this node, or refuted it."""
        core = self._core
        self.gone(node_id)
        member = core.members.get(node_id)
        if member is not None:
            member.state = MemberState.ALIVE
            core.touch(node_id)
            core.story("refuted", node_id, f"{core.name(node_id)} {why}: no longer suspected")

    def newer(self, node_id: NodeId) -> None:
        """A member lives on under a higher incarnation."""
        suspicion = self.suspects.get(node_id)
        member = self._core.members.get(node_id)
        if suspicion and member and member.record.claim.incarnation > suspicion.incarnation:
            self.clear(node_id, "refuted it")

    def gone(self, node_id: NodeId) -> None:
        """Forget the suspicion: the member is no longer in the table, or no longer suspect."""
        suspicion = self.suspects.pop(node_id, None)
        if suspicion is not None and suspicion.timer is not None:
            suspicion.timer.cancel()
