"""The backstop: every 60 s, two strikes, and it never discovers anyone (scenarios 11 and 13).

Beats those members that no fast probe covers, because there is no link to them: a request over a stream,
dialled on demand. Two missed in a row start the verification that every death needs: a link may have been
closed as unused in the very moment of a beat (simulator, `wan`). It refreshes what is known of known members;
an id that it hears of and does not know stays unknown.
"""

from nodes.mesh.anti_entropy import AntiEntropy
from nodes.mesh.gossip_core import Core
from nodes.mesh.ids import NodeId
from nodes.mesh.suspicion import Suspicions


class Heartbeat:
    """The rounds and the strikes."""

    def __init__(self, core: Core, suspicions: Suspicions, anti_entropy: AntiEntropy) -> None:
        self._core = core
        self._suspicions = suspicions
        self._anti_entropy = anti_entropy
        self._strikes: dict[NodeId, int] = {}
        self._turn: list[NodeId] = []
        wait = core.config.heartbeat_interval_s * core.rng.uniform(0.5, 1.0)
        core.timers.at(core.now + wait, self._round)

    def _round(self, _: None) -> None:
        core = self._core
        core.timers.at(core.now + core.config.heartbeat_interval_s, self._round)
        core.dead.expire(core.now)
        self._strikes = {p: s for p, s in self._strikes.items() if p in core.members}
        for peer in self._chosen():
            self._beat(peer)

    def _chosen(self) -> list[NodeId]:
        """Those with a strike first, then the next in turn."""
        core = self._core
        chosen = [p for p in self._strikes if p not in core.links]
        if not self._turn:
            self._turn = sorted(core.members)
            core.rng.shuffle(self._turn)
        while self._turn and len(chosen) < core.config.heartbeat_peers_max:
            peer = self._turn.pop()
            if peer in core.members and peer not in core.links and peer not in self._strikes:
                chosen.append(peer)
        return chosen[: core.config.heartbeat_peers_max]

    def _beat(self, peer: NodeId) -> None:
        started = self._core.now

        def on_done(heard: bool) -> None:
            self._beaten(peer, heard, started)

        self._anti_entropy.sync(peer, discover=False, on_done=on_done)

    def _beaten(self, peer: NodeId, heard: bool, started: float) -> None:
        core = self._core
        if heard:
            self._strikes.pop(peer, None)
        elif peer in core.members and core.stalled_at < started:
            strikes = self._strikes.get(peer, 0) + 1
            self._strikes[peer] = strikes
            if strikes >= core.config.heartbeat_strikes:
                self._strikes.pop(peer)
                core.story(
                    "heartbeat", peer, f"{core.name(peer)} missed {strikes} heartbeats", "warning"
                )
                self._suspicions.unheard(peer)
