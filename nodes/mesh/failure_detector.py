"""Who is probed next, and what an unanswered probe means: SWIM's probes over this node's links.

Targets are the neighbours and whoever else has a link (so a peer that requests go to is probed too), in
a shuffled round, two in a period (one in a large mesh). A missed direct probe ranks its target last at once
and asks relays; a period without any answer accuses it. Suspects with a link are probed in every period on
top, with the accusation on board (Lifeguard's buddy system). Probes ride in DATAGRAM frames of links that are
there; to a neighbour without a link the dial itself is the probe. Source: SWIM 3 and 4.3, Lifeguard 4.1.
"""

import msgspec

from nodes.mesh import limits
from nodes.mesh.gossip_core import Core, Link
from nodes.mesh.gossip_effects import MemberState, OpenLink
from nodes.mesh.ids import NodeId
from nodes.mesh.load_figures import LoadFigures
from nodes.mesh.messages import (
    Ack,
    Check,
    CheckAnswer,
    Nack,
    Ping,
    PingRequest,
    RelayAck,
    StreamMessage,
)
from nodes.mesh.port_evidence import PortEvidence
from nodes.mesh.suspicion import Suspicions
from nodes.mesh.timers import Timer

_SEQ_MODULUS = 2**32
_SUSPECTS_PER_PERIOD_MAX = 2
_RTT_GAIN = 0.125  # RFC 6298 section 2, alpha


class _Probe:
    __slots__ = ("again_at", "again_seq", "nacks", "origin", "origin_seq", "relays", "sent_at", "seq",
                 "target", "timeout_at", "timer")  # fmt: skip

    def __init__(self, seq: int, target: NodeId, now: float) -> None:
        self.seq = seq
        self.target = target
        self.sent_at = now
        self.relays = 0
        self.nacks = 0
        self.again_seq: int | None = None
        """The repeated ping has a number of its own, so that its answer is told from the first one's."""
        self.again_at = 0.0
        self.timer: Timer | None = None
        self.timeout_at = 0.0
        self.origin: NodeId | None = None
        """Not None: run for this member, who asked under `origin_seq`."""
        self.origin_seq = 0


class FailureDetector:
    """The probes of one node."""

    def __init__(self, core: Core, suspicions: Suspicions, ports: PortEvidence,
                 figures: LoadFigures) -> None:  # fmt: skip
        self._core = core
        self._suspicions = suspicions
        self._ports = ports
        self._figures = figures
        self._probes: dict[int, _Probe] = {}
        self._round: list[NodeId] = []
        self._seq = 0
        self._relaying = 0
        first = core.now + core.rng.uniform(0.0, core.config.probe_interval_s)
        core.timers.at(first, self._period)

    # --- a period --------------------------------------------------------

    def _period(self, _: None) -> None:
        core = self._core
        interval = core.config.probe_interval_s * core.awareness.factor
        core.timers.at(core.now + interval / self._turns(), self._period)
        for target in self._targets():
            self._probe(target)

    def _turns(self) -> int:
        """Return how many targets have their turn in one period."""
        config, peers = self._core.config, len(self._core.members)
        in_turn = config.probe_all_max < peers <= config.full_mesh_peers_max
        return config.probes_small if in_turn else 1

    def _targets(self) -> list[NodeId]:
        core = self._core
        chosen: list[NodeId] = []
        neighbours = core.neighbours.current()
        if len(neighbours) <= core.config.probe_all_max:
            chosen.extend(sorted(neighbours))
        else:
            target = self._next_in_round(neighbours)
            if target is not None:
                chosen.append(target)
        extra = 0
        for suspect in self._suspicions.suspects:
            if extra == _SUSPECTS_PER_PERIOD_MAX:
                break
            if suspect in core.links and suspect not in chosen:
                chosen.append(suspect)
                extra += 1
        return chosen

    def _next_in_round(self, neighbours: frozenset[NodeId]) -> NodeId | None:
        core = self._core
        for _ in range(2):
            while self._round:
                target = self._round.pop()
                if target in neighbours or (target in core.links and target in core.members):
                    return target
            others = [p for p in core.links if p in core.members and p not in neighbours]
            self._round = sorted(neighbours) + others[: limits.LINKS_MAX]
            core.rng.shuffle(self._round)
        return None

    def _probe(self, target: NodeId) -> None:
        core = self._core
        probe = self._new(target)
        link = core.links.get(target)
        if link is not None:
            self._ping(link, probe, probe.seq)
        else:
            core.effects.append(OpenLink(core.contact(target), core.config.dial_timeout_s))
        timeout = core.config.probe_timeout_s * core.awareness.factor
        probe.timeout_at = core.now + timeout
        probe.timer = core.timers.at(core.now + timeout / 2, self._ping_again, probe)

    def _ping_again(self, probe: _Probe) -> None:
        """Datagrams get lost: the ping is repeated once before its target counts as late."""
        core = self._core
        link = core.links.get(probe.target)
        if link is not None and probe.target in core.members:
            probe.again_at = core.now
            probe.again_seq = self._number(probe)
            self._ping(link, probe, probe.again_seq)
        probe.timer = core.timers.at(max(probe.timeout_at, core.now), self._direct_missed, probe)

    def _new(self, target: NodeId) -> _Probe:
        probe = _Probe(0, target, self._core.now)
        probe.seq = self._number(probe)
        return probe

    def _number(self, probe: _Probe) -> int:
        self._seq = (self._seq + 1) % _SEQ_MODULUS
        self._probes[self._seq] = probe
        return self._seq

    def _forget(self, probe: _Probe) -> bool:
        """Return whether it was still open."""
        if probe.again_seq is not None:
            self._probes.pop(probe.again_seq, None)
        return self._probes.pop(probe.seq, None) is not None

    def _ping(self, link: Link, probe: _Probe, seq: int) -> None:
        suspicion = self._suspicions.suspects.get(probe.target)
        first = (msgspec.Raw(suspicion.raw),) if suspicion else ()
        self._core.send_probe(Ping, seq, link, first)

    # --- no answer -------------------------------------------------------

    def _direct_missed(self, probe: _Probe) -> None:
        core = self._core
        member = core.members.get(probe.target)
        if member is None or self._answered_since(probe):
            self._forget(probe)
            return
        member.missed_probes += 1
        if not member.late:
            member.late = True
            core.touch(probe.target)
            core.story(
                "late", probe.target, f"{core.name(probe.target)} missed a probe: ranked last"
            )
        self._ports.probe(probe.target)
        for relay in self._relays(probe.target):
            probe.relays += 1
            core.send(relay, PingRequest(probe.seq, bytes.fromhex(probe.target)))
        ends = probe.sent_at + core.config.probe_interval_s * core.awareness.factor
        probe.timer = core.timers.at(max(ends, core.now), self._failed, probe)

    def _answered_since(self, probe: _Probe) -> bool:
        link = self._core.links.get(probe.target)
        return link is not None and link.acked_at > probe.sent_at

    def _relays(self, target: NodeId) -> list[NodeId]:
        core = self._core
        able = [
            peer for peer in core.links
            if peer != target and (m := core.members.get(peer)) is not None
            and not m.late and m.state is MemberState.ALIVE
        ]  # fmt: skip
        return core.rng.sample(able, min(core.config.relays, len(able)))

    def _failed(self, probe: _Probe) -> None:
        if not self._forget(probe) or self._answered_since(probe):
            return
        self._core.awareness.change(probe.relays - probe.nacks if probe.relays else 1)
        self._suspicions.accuse(probe.target)

    def stalled(self) -> None:
        """This process was stalled: what its probes seem to have missed is no evidence."""
        for probe in self._probes.values():
            if probe.timer is not None:
                probe.timer.cancel()
        self._probes.clear()
        self._relaying = 0
        self._core.awareness.change(1)

    # --- answers ---------------------------------------------------------

    def heard(self, link: Link) -> None:
        """A round trip with this peer was just proven."""
        core = self._core
        link.acked_at = core.now
        member = core.members.get(link.peer)
        if member is not None and member.late:
            member.late, member.missed_probes = False, 0
            core.touch(link.peer)

    def acked(self, link: Link, ack: Ack) -> None:
        """An `Ack` arrived from this peer."""
        probe = self._probes.get(ack.seq)
        if probe is None or probe.target != link.peer:
            return
        self.heard(link)
        self._forget(probe)
        if probe.timer is not None:
            probe.timer.cancel()
        rtt = self._core.now - (probe.sent_at if ack.seq == probe.seq else probe.again_at)
        link.rtt_s = rtt if link.rtt_s is None else link.rtt_s + _RTT_GAIN * (rtt - link.rtt_s)
        link.rtt_least_s = rtt if link.rtt_least_s is None else min(link.rtt_least_s, rtt)
        self._figures.measured(link)
        if probe.origin is not None:
            self._relaying -= 1
            self._core.send(probe.origin, RelayAck(probe.origin_seq))
        else:
            self._core.awareness.change(-1)

    def relay_answered(self, message: RelayAck | Nack) -> None:
        """A relay heard the target (the suspicion is off, it stays ranked last), or did not."""
        probe = self._probes.get(message.seq)
        if probe is None or probe.origin is not None:
            return
        if isinstance(message, Nack):
            probe.nacks = min(probe.relays, probe.nacks + 1)
            return
        self._forget(probe)
        if probe.timer is not None:
            probe.timer.cancel()

    # --- for others ------------------------------------------------------

    def relay(self, origin: NodeId, request: PingRequest) -> None:
        """Probe a target for another member; over a link that is there, or a dial of its own."""
        core, target = self._core, NodeId(request.target.hex())
        if target == core.self_id:
            core.send(origin, RelayAck(request.seq))
            return
        if target not in core.members or self._relaying >= limits.RELAYS_IN_FLIGHT_MAX:
            core.send(origin, Nack(request.seq))
            return
        self._relaying += 1
        link = core.links.get(target)
        if link is None:
            self._relay_by_stream(origin, request.seq, target)
            return
        probe = self._new(target)
        probe.origin, probe.origin_seq = origin, request.seq
        self._ping(link, probe, probe.seq)
        wait = core.config.probe_timeout_s * 0.5
        probe.timer = core.timers.at(core.now + wait, self._relay_missed, probe)

    def _relay_missed(self, probe: _Probe) -> None:
        if self._forget(probe) and probe.origin is not None:
            self._relaying -= 1
            self._core.send(probe.origin, Nack(probe.origin_seq))

    def _relay_by_stream(self, origin: NodeId, seq: int, target: NodeId) -> None:
        core = self._core

        def on_answer(answer: StreamMessage | None, _refused: bool) -> None:
            self._relaying = max(0, self._relaying - 1)
            core.send(origin, (RelayAck if isinstance(answer, CheckAnswer) else Nack)(seq))

        core.request(core.contact(target), Check(), core.config.probe_timeout_s, on_answer)
