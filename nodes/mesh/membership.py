"""Who is in the table and what counts as news of them: the one writer of `members` and `dead`.

A record is replaced only by its own subject's later word, ordered by (incarnation, version). What a third
party says only makes a suspect (`suspicion`). The dead are not re-added by gossip: a later life that is
only heard of is handed to `on_return`, to be proven by direct contact. Source: SWIM section 4.2
(incarnations), spec (Trust), scenarios 11 and 12.
"""

from collections.abc import Callable

import msgspec

from nodes.mesh import codec, limits
from nodes.mesh.dead_peers import DeadPeer
from nodes.mesh.gossip_core import Core, Member
from nodes.mesh.gossip_effects import CloseLink, MemberState, MemberView
from nodes.mesh.ids import NodeId
from nodes.mesh.messages import Accusation, Claim, Gossip
from nodes.mesh.own_id import OwnId
from nodes.mesh.records import Record, believed, claim_verified, with_claim


class Membership:
    """The table's rules. `on_*` are set by `GossipNode`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.own = OwnId(core)
        self.departed: list[MemberView] = []
        """Views of who died or left in this event: told once."""
        self.on_return: Callable[[Record], None] = lambda record: None
        self.on_unknown_body: Callable[[NodeId, NodeId], None] = lambda subject, source: None
        self.on_newer: Callable[[NodeId], None] = lambda node_id: None
        self.on_gone: Callable[[NodeId], None] = lambda node_id: None
        self.on_joined: Callable[[NodeId], None] = lambda node_id: None

    # --- a subject's own word --------------------------------------------

    def learn(self, record: Record, source: NodeId, spread: bool = True) -> None:
        """Take a record in, if it is news and believable. From its subject itself it also ends a death."""
        core, node_id = self._core, record.node_id
        if node_id == core.self_id:
            self.own.heard(record)
            return
        if node_id in core.revoked:
            return
        dead = core.dead.get(node_id)
        if dead is not None and not self._may_return(record, source, dead):
            return
        member = core.members.get(node_id)
        if member is not None and record.order <= member.record.order:
            return
        if not believed(core.identity, record):
            core.counters["records_refused"] += 1
            return
        if record.claim.left:
            if member is not None:
                self._farewell(member, record, record.claim, source)
        elif member is not None:
            self._replace(member, record, spread)
        else:
            self._add(record, spread, dead)

    def _may_return(self, record: Record, source: NodeId, dead: DeadPeer) -> bool:
        """Direct contact may; what gossip says of a later life is only a reason to look."""
        if source == record.node_id:
            if not dead.left or record.order > dead.order:
                return True
            if record.body.boot != dead.record.body.boot:
                # Restarted with a clock that went back: let it outbid the life that left.
                self._tell_of_its_death(record, dead)
            return False
        later = record.claim.incarnation > dead.incarnation and not record.claim.left
        if later and believed(self._core.identity, record):
            self.on_return(record)
        return False

    def hear_claim(self, claim: Claim, source: NodeId) -> None:
        """Take a claim from a datagram; where its body is not here, have it pulled from the source."""
        core, node_id = self._core, NodeId(claim.node_id.hex())
        if node_id == core.self_id:
            if (claim.incarnation, claim.version) > core.me.order:
                self.on_unknown_body(node_id, source)
            return
        member, dead = core.members.get(node_id), core.dead.get(node_id)
        held = member.record if member else dead.record if dead else None
        if held is not None and (claim.incarnation, claim.version) <= held.order:
            return
        if dead is not None and claim.incarnation <= dead.incarnation:
            return
        if member is not None and claim.left:
            self._hear_farewell(member, claim, source)
            return
        if held is None or held.claim.digest != claim.digest:
            if node_id not in core.revoked:
                self.on_unknown_body(node_id, source)
            return
        if not claim_verified(core.identity, claim, held.body.public_key):
            core.counters["claims_refused"] += 1
            return
        self.learn(with_claim(held, claim), source)

    def _add(self, record: Record, spread: bool, dead: DeadPeer | None) -> None:
        core, node_id = self._core, record.node_id
        if len(core.members) >= limits.MEMBERS_MAX:
            core.counters["members_refused"] += 1
            return
        core.dead.forget(node_id)
        core.members[node_id] = Member(record)
        core.table_hash ^= record.hash62
        core.neighbours.added(node_id)
        core.broadcasts.limit = core.config.transmit_limit(core.size)
        if spread:
            core.spread(node_id, record.update)
        core.touch(node_id)
        if dead is None:
            core.story("joined", node_id, f"{core.name(node_id)} joined")
        else:
            core.story("returned", node_id, f"{core.name(node_id)} is back")
            self._tell_of_its_death(record, dead)
        self.on_joined(node_id)

    def _tell_of_its_death(self, record: Record, dead: DeadPeer) -> None:
        """Others may hold it for dead at this incarnation: let it refute that."""
        if record.claim.incarnation <= dead.incarnation:
            raw = _accusation(self._core, record.claim.node_id, dead.incarnation, False)
            self._core.send(record.node_id, Gossip((msgspec.Raw(raw),)))

    def _replace(self, member: Member, record: Record, spread: bool) -> None:
        core, old = self._core, member.record
        member.record = record
        core.table_hash ^= old.hash62 ^ record.hash62
        if spread:
            core.spread(record.node_id, record.update)
        core.touch(record.node_id)
        if old.body.boot != record.body.boot:
            core.story("restarted", record.node_id, f"{core.name(record.node_id)} restarted")
        if record.claim.incarnation > old.claim.incarnation:
            self.on_newer(record.node_id)

    # --- ends ------------------------------------------------------------

    def _hear_farewell(self, member: Member, claim: Claim, source: NodeId) -> None:
        """Believe it without its body: who stops changes what it says and leaves in one breath.

        A pull would come too late: the subject is about to be gone, and who passed its farewell on has
        forgotten it already. The key of an id never changes, so the one that is here proves the claim.
        """
        core = self._core
        if claim_verified(core.identity, claim, member.record.body.public_key):
            self._farewell(member, member.record, claim, source)
        else:
            core.counters["claims_refused"] += 1

    def _farewell(self, member: Member, record: Record, claim: Claim, source: NodeId) -> None:
        """`record`: the latest that is here whole; the claim may be of a later one."""
        core, node_id = self._core, record.node_id
        core.story("left", node_id, f"{core.name(node_id)} left")
        self._remove(member, MemberState.LEFT)
        core.dead.add(record, core.now, farewell=claim)
        update = codec.encode_part(claim)
        core.spread(node_id, update)
        core.flood(update, but=source)

    def die(self, node_id: NodeId, text: str, refused: bool = False, announce: bool = True) -> None:
        """Declare a verified death: drop the link, remember it, tell everyone (pinned 11)."""
        core = self._core
        member = core.members.get(node_id)
        if member is None:
            return
        missed = member.missed_probes
        seen = f"{missed} missed probe{'s' if missed > 1 else ''}; " if missed else ""
        story = f"{core.name(node_id)} was declared dead: {seen}{text}"
        core.story("died", node_id, story, "warning")
        self._remove(member, MemberState.DEAD)
        core.dead.add(member.record, core.now)
        if announce:
            claim = member.record.claim
            raw = _accusation(core, claim.node_id, claim.incarnation, refused)
            core.spread(node_id, raw)
            core.flood(raw)

    def _remove(self, member: Member, state: MemberState) -> None:
        core, node_id = self._core, member.record.node_id
        member.state = state
        self.departed.append(core.view(member))
        del core.members[node_id]
        core.table_hash ^= member.record.hash62
        core.neighbours.removed(node_id)
        core.broadcasts.drop(node_id)
        core.broadcasts.limit = core.config.transmit_limit(core.size)
        link = core.links.pop(node_id, None)
        if link is not None:
            core.effects.append(CloseLink(node_id, link.link, state.value))
        self.on_gone(node_id)

    def revoke(self, node_id: NodeId) -> None:
        """Drop a node for good, member or not yet: its credential was withdrawn."""
        core = self._core
        if node_id == core.self_id or node_id in core.revoked:
            return
        if len(core.revoked) < limits.REVOKED_MAX:
            core.revoked.add(node_id)
        core.story(
            "revoked", node_id, f"{core.name(node_id)} was expelled: its membership was revoked"
        )
        member = core.members.get(node_id)
        if member is not None:
            self._remove(member, MemberState.DEAD)
        core.dead.forget(node_id)
        link = core.links.pop(node_id, None)
        if link is not None:
            core.effects.append(CloseLink(node_id, link.link, "revoked"))


def _accusation(core: Core, subject: bytes, incarnation: int, refused: bool) -> bytes:
    accuser = bytes.fromhex(core.self_id)
    return msgspec.msgpack.encode(Accusation(subject, incarnation, True, accuser, refused))
