"""What is said under this node's own id: accusations to refute, its own past to outlive, a twin to name.

An accusation, or a claim of a former life that still travels, is answered by a higher incarnation. Another
process that answers back is a twin: it is named once, and from then on this node bids again only after
a wait that doubles, so two processes with one key are no war of incarnations. A farewell under our id is
outbid at once: whoever of two goes must not take the other along. Source: SWIM section 4.2; issue (two
processes with one key).
"""

from nodes.mesh.gossip_core import Core
from nodes.mesh.gossip_effects import ReportTwin
from nodes.mesh.records import Record, believed

TWIN_ANSWERS = 2
"""Answers to our bids that prove a twin. Words of a former life that was refuted often may still travel,
and one of them may look like an answer; not two."""


class OwnId:
    """This node's incarnations."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._boot = b""
        """Of the other process that was heard last."""
        self._theirs = 0
        """The highest incarnation that it claimed."""
        self._bid = 0
        """Our latest answer to it."""
        self._bid_at = 0.0
        self._answers = 0
        """Times in a row that it answered a bid of ours in time."""
        self._quiet_until = 0.0
        self._quiet_s = core.config.twin_grace_s
        self._told = False

    def refute(self, accused_incarnation: int) -> None:
        """Somebody says that this node is suspect or dead: live on under a higher incarnation."""
        core = self._core
        if accused_incarnation < core.me.claim.incarnation or core.leaving:
            return
        self.reincarnate(accused_incarnation + 1)
        core.awareness.change(1)

    def reincarnate(self, incarnation: int) -> None:
        """Sign a claim of this incarnation and tell it at once."""
        core = self._core
        core.sign_me(core.me.body.announcement, incarnation, core.me.claim.version)
        core.spread(core.self_id, core.me.update)
        core.flood(core.me.update)

    def heard(self, record: Record) -> None:
        """A record under our own id from another start of the process: our past, or a twin."""
        core = self._core
        if record.order <= core.me.order or record.body.boot == core.identity.boot:
            return
        if not believed(core.identity, record):
            core.counters["records_refused"] += 1
            return
        boot, incarnation = record.body.boot, record.claim.incarnation
        in_time = core.now - self._bid_at <= core.config.twin_grace_s
        if boot != self._boot or incarnation <= self._bid or not in_time:
            self._answers = 0
        else:
            self._answers += 1
        self._boot, self._theirs = boot, max(self._theirs, incarnation)
        if core.now < self._quiet_until and not record.claim.left:
            return
        self._outbid()  # also when it is a twin: this bid is what the other one knows it by
        if self._answers >= TWIN_ANSWERS and not record.claim.left:
            self._tell()
            self._be_quiet()

    def _outbid(self) -> None:
        core = self._core
        if not core.leaving:
            self._bid, self._bid_at = self._theirs + 1, core.now
            self.reincarnate(self._bid)

    def _be_quiet(self) -> None:
        core = self._core
        self._quiet_until = core.now + self._quiet_s
        core.timers.at(self._quiet_until, self._bid_again)
        self._quiet_s = min(self._quiet_s * 2, core.config.redial_max_s)

    def _bid_again(self, _: None) -> None:
        """The other one may be gone by now, and its word must not stand for ours."""
        if self._core.me.claim.incarnation <= self._theirs:
            self._outbid()

    def _tell(self) -> None:
        core = self._core
        if self._told:
            return
        self._told = True
        text = (
            f"another running process uses this node's key (id {core.self_id[:16]}): stop one of them, "
            "or give the second its own MESH_LLM_HOME or MESH_LLM_EPHEMERAL_KEY=1"
        )
        core.story("twin_key", core.self_id, text, "error")
        core.effects.append(ReportTwin(text))
