"""Every tunable of gossip: its unit, default, formula and source. Two profiles: `lan` and `wan`.

Sources: SWIM (Das, Gupta, Motivala, DSN 2002), Lifeguard (Dadgar, Phillips, Currey, 2018), memberlist's
published defaults, Rapid (Suresh et al., USENIX ATC 2018) for the k rings, and this project's own
specification (spec, Pinned 11 to 13), named at each.
"""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """The numbers of one profile. Seconds unless the name says otherwise."""

    probe_interval_s: float = 0.5
    """One probe a period (SWIM's protocol period T'). lan 0.5: pinned 11; wan 2.0. Lengthened by the
    observer's own health score: x (1 + score) (Lifeguard, LHA-Probe)."""
    probe_timeout_s: float = 0.3
    """A direct probe, repeated once at half of it, without an answer for so long ranks its target last, and
    relays are asked. lan 0.3:
    pinned 11; wan 1.0: a p99 round trip between continents plus one lost packet. x (1 + score)."""
    probe_all_max: int = 3
    """Targets. Up to so many, each is probed in every period; beyond, one in turn. Own choice: with two
    peers, "ranked last" then takes 0.3 to 0.8 s instead of 0.3 to 1.3 s."""
    relays: int = 3
    """Members asked to probe indirectly (SWIM's k; memberlist 3)."""
    awareness_max: int = 8
    """Highest health score (Lifeguard's S = 8)."""
    suspicion_mult: float = 4.0
    """Shortest suspicion = mult x max(1, log10 n) x probe_interval_s (memberlist 4; wan 6). The factor is
    also the wished number of confirmations plus two (Lifeguard's K)."""
    suspicion_max_mult: float = 6.0
    """Longest suspicion (nobody confirms) = so many times the shortest (Lifeguard's beta, 6)."""
    verify_timeout_s: float = 1.0
    """A suspected or reported death is verified by a real round trip of at most so long; it runs inside the
    last part of the suspicion. Pinned 11: <= 3 s. wan 2.5."""
    use_verify_timeout_s: float = 2.5
    """After a request through the member failed, verification begins at once, and ends so long after the
    suspicion began: longer than the stall of 2 s that must kill nobody, within pinned 11 (3 s). wan 8."""
    port_confirm_s: float = 0.05
    """From a refused port to the second probe that confirms it. Own choice: long enough that one stray
    ICMP answer is not seen twice, short against the 1 s that the figure allows."""
    port_window_s: float = 2.0
    """Two refusals further apart than this confirm nothing."""
    stall_s: float = 0.15
    """An event handled so long after `deadline` means that this process itself was stalled: what seems
    missed meanwhile is no evidence. = probe_timeout_s / 2. wan 0.5."""
    stall_grace_s: float = 0.8
    """After a stall nobody dies for so long: one probe_interval_s + probe_timeout_s."""
    gossip_interval_s: float = 0.1
    """Between rounds of gossip while there is something to spread (memberlist 0.2). wan 0.5."""
    gossip_fanout: int = 3
    """Linked members told in each round (memberlist 3)."""
    retransmit_mult: int = 4
    """An update is sent mult x ceil(log10(n + 1)) times by each member (memberlist 4)."""
    load_interval_s: float = 0.5
    """Between two tellings of this node's load, and between two publications of others' (own choice: a
    router's figures are then at most about a second old). wan 2."""
    pull_delay_s: float = 0.05
    """Bodies that are missing are collected for so long, then pulled together."""
    sync_interval_s: float = 15.0
    """Push-pull with one random linked member; equal tables cost one small round trip (memberlist 30 with
    whole tables). Jittered by a third. wan 60."""
    sync_timeout_s: float = 5.0
    """For one request of a sync."""
    heartbeat_interval_s: float = 60.0
    """The backstop of scenario 11."""
    heartbeat_strikes: int = 2
    """Missed heartbeats in a row that make a death (scenario 11)."""
    heartbeat_peers_max: int = 16
    """Members beaten in one round: those without a link, in turn. Bounds what a large mesh costs."""
    full_mesh_peers_max: int = 16
    """Peers. Up to so many, each has a link; beyond, links go to the neighbours on `rings` rings."""
    rings: int = 8
    """Successor and predecessor on each of k rings (Rapid: k = 8 to 10): 2k links whatever n is."""
    dial_timeout_s: float = 3.0
    """For one attempt to open a link. wan 6."""
    dial_yield_s: float = 0.4
    """The end with the higher id lets the other dial first, so that few pairs dial twice."""
    redial_min_s: float = 1.0
    """First wait after a failed dial; doubles up to `redial_max_s`, each x 0.8 to 1.0."""
    redial_max_s: float = 60.0
    """Pinned 12: at most 60 s apart."""
    link_idle_s: float = 60.0
    """A link to a non-neighbour without request streams for so long is closed."""
    dead_expiry_s: float = 3_600.0
    """A death is remembered so long; must outlast the oldest gossip in flight by far. wan 86,400."""
    reconnect_interval_s: float = 4.0
    """One of the remembered dead (not of those who left) is dialled so often: this heals partitions. At n
    nodes the first contact comes after about interval / n. wan 30."""
    return_spread_s: float = 0.01
    """A claimed return is checked after a random wait of up to so much per member, so that a restarted
    node is not dialled by a thousand others at once."""
    leave_linger_s: float = 0.3
    """A leaving node repeats its farewell for so long (3 times), then is done. Clean leave <= 0.5 s."""
    twin_grace_s: float = 10.0
    """Within so long a twin answers our bid (`own_id`); a stale copy of our own past is outbid once and
    then silent. Also the first wait until
    a twin is outbid again; doubles up to `redial_max_s`."""

    def suspicion_min_s(self, members: int) -> float:
        """Return the shortest suspicion in a mesh of so many nodes."""
        return self.suspicion_mult * max(1.0, math.log10(max(1, members))) * self.probe_interval_s

    def suspicion_timeout_s(self, members: int, confirmations: int) -> float:
        """Return how long a suspicion lasts after so many independent confirmations (Lifeguard).

        max - (max - min) x log(c + 1) / log(k + 1), never below min; where fewer than k others could
        confirm, min from the start.
        """
        low = self.suspicion_min_s(members)
        wished = int(self.suspicion_mult) - 2
        if wished < 1 or members - 2 < wished:
            return low
        high = low * self.suspicion_max_mult
        shrunk = high - (high - low) * math.log(confirmations + 1) / math.log(wished + 1)
        return max(low, shrunk)

    def transmit_limit(self, members: int) -> int:
        """Return how often each member sends one update."""
        return self.retransmit_mult * math.ceil(math.log10(members + 1))


def lan() -> GossipConfig:
    """Return the profile for one site: the default."""
    return GossipConfig()


def wan() -> GossipConfig:
    """Return the profile for machines in several places: slower, and more patient with loss and delay."""
    return replace(
        GossipConfig(),
        probe_interval_s=2.0,
        probe_timeout_s=1.0,
        suspicion_mult=6.0,
        verify_timeout_s=2.5,
        use_verify_timeout_s=8.0,
        stall_s=0.5,
        stall_grace_s=3.0,
        gossip_interval_s=0.5,
        load_interval_s=2.0,
        sync_interval_s=60.0,
        dial_timeout_s=6.0,
        dial_yield_s=1.5,
        dead_expiry_s=86_400.0,
        reconnect_interval_s=30.0,
    )


PROFILES = {"lan": lan, "wan": wan}
