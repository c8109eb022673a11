"""The node as one state machine: `handle(event, now) -> effects`, and one `deadline`.

Composes what a node decides: what it serves (`serving`), and who else is there (`gossip`, once it is in
a mesh; a passive client never is). What gossip learns becomes routes and views; what serving does becomes
this node's announcement. Called by one task only (`nodes.runtime.driver`); nothing else changes mesh
state, so no locks.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from nodes.mesh import events as ev
from nodes.mesh.announcement import Announcement
from nodes.mesh.causes import Cause
from nodes.mesh.client_events import TableReceived
from nodes.mesh.drains import Drains, DrainWord, drain_notice
from nodes.mesh.duties import Duties
from nodes.mesh.effects import ChangeRoutes, Effect, LeaveAndExit, PublishDelta, RecordEvent
from nodes.mesh.events import Event
from nodes.mesh.gossip import GossipNode
from nodes.mesh.gossip_effects import (
    GossipEffect,
    LeaveFinished,
    PublishMembers,
    PublishNotice,
    RecordStory,
)
from nodes.mesh.gossip_events import AnnouncementChanged, GossipEvent, JoinRequested, LeaveRequested
from nodes.mesh.ids import ModelName
from nodes.mesh.members import Members
from nodes.mesh.needed import Needed
from nodes.mesh.own_facts import OwnFacts, announce, disk_lines
from nodes.mesh.placement import ServingOptions
from nodes.mesh.reasons import why_by_table
from nodes.mesh.routing import RoutingTable, match_name
from nodes.mesh.serving import Serving
from nodes.mesh.snapshot import State, difference
from nodes.mesh.tombstones import drop_notice, model_of
from nodes.mesh.view import Me, role, routing_table
from nodes.mesh.whole_view import whole_state

VIEW_INTERVAL_S = 0.1
"""Changes of the members are shown at most so often: a thousand nodes that come at once are one change
for eyes. Routes follow at once."""

Input = Event | GossipEvent | TableReceived
_SERVING_EVENTS = (
    ev.EngineFound,
    ev.EngineUnavailable,
    ev.ResourcesSampled,
    ev.ModelResolving,
    ev.ModelWanted,
    ev.ModelRefused,
    ev.ServerProgressed,
    ev.ServerReady,
    ev.ServerExited,
    ev.ServerDrafted,
    ev.ServerLoadSampled,
    ev.WorkerReady,
    ev.WorkerExited,
    ev.DropRequested,
    ev.RestartRequested,
    ev.StopRequested,
    ev.AnswersFinished,
)


class MeshNode:
    """The truth about the running node."""

    def __init__(self, me: Me, options: ServingOptions) -> None:
        self.me = me
        self.serving = Serving(options)
        self.members = Members()
        self.duties = Duties(me.node_id, self.serving)
        self.drains = Drains()
        self._needed = Needed()
        self.gossip: GossipNode | None = None
        """None: this node is in no mesh (yet), or a client."""
        self.own = OwnFacts()
        self._shown: State = {}
        self._routes = RoutingTable(me.node_id, (), me.started_at)
        self._clock_offset_s: float | None = None
        """Unix seconds less monotonic ones, as of the first event."""
        self._last_act: LeaveAndExit | None = None
        """Held back until the others were told."""
        self._told_others = False
        self._view_due_s = math.inf
        self._viewed_s = -math.inf

    @property
    def deadline(self) -> float | None:
        """When the driver must hand in `TimePassed`; None: only when something happens."""
        waits = [
            self.serving.deadline,
            self.duties.deadline if self.gossip else None,
            self.gossip.deadline if self.gossip else None,
            self.members.gone_until,
            self._view_due_s,
        ]
        earliest = min((w for w in waits if w is not None), default=math.inf)
        return None if earliest == math.inf else earliest

    @property
    def routes(self) -> RoutingTable:
        """The table of the last `ChangeRoutes`."""
        return self._routes

    @property
    def shown(self) -> State:
        """What viewers see now. Read it, do not change it."""
        return self._shown

    def handle(self, event: Input, now: float) -> list[Effect]:
        """Take one event at `now` (seconds, monotonic); return what is to be done, in order."""
        self._look_at_clock(now)
        effects: list[Effect] = []
        if isinstance(event, _SERVING_EVENTS):
            self._before_serving(event, now, effects)
            effects.extend(self._serve(event, now))
            changed = True
        elif isinstance(event, ev.DrainRequested):
            self._drain(event, now, effects)
            changed = True
        else:
            changed = self._take_own(event, now, effects)
        if isinstance(event, ev.TimePassed):
            due_s = self.serving.deadline
            changed = due_s is not None and due_s <= now
            effects.extend(self._serve(event, now))
            changed |= self.members.forget_gone(now)
        if isinstance(event, JoinRequested) and event.contacts:
            self.duties.joins()
        if self.gossip is not None and isinstance(event, GossipEvent):
            changed |= self._gossip(event, now, effects)
        duties_due_s = self.duties.deadline if self.gossip is not None else None
        if changed or (duties_due_s is not None and duties_due_s <= now):
            self._decide(now, effects)
            self._say(now, effects)
            effects.extend(self._differences(now, urgent=not isinstance(event, GossipEvent)))
        elif now >= self._view_due_s:
            effects.extend(self._differences(now, urgent=True))
        return effects

    def opening(self) -> list[Effect]:
        """Return the first view and table, for a driver that starts."""
        return self._differences(-math.inf, urgent=True)

    def enter_mesh(
        self,
        make: Callable[[Announcement], GossipNode],
        mesh_id: str,
        quic_port: int | None,
        now: float,
    ) -> list[Effect]:
        """Be in this mesh from now on, in place of the one before; `make` builds the gossip half."""
        self._look_at_clock(now)
        self.me = replace(self.me, mesh_id=mesh_id, quic_port=quic_port)
        self.members.clear()
        self.duties.left_mesh()
        self.gossip = make(self.announcement())
        return self._differences(now, urgent=True)

    def announcement(self) -> Announcement:
        """Return what this node says of itself now."""
        me = self.me
        return announce(
            me.name, me.version, role(me, self.serving), self.serving, self.own, self.duties.words
        )

    def why(self, model: ModelName, now: float) -> dict[str, Any]:
        """Return why a model is served as it is, as plain values (`reasons.why`)."""
        if self.me.is_client:
            return why_by_table(model, self.members.upstreams())
        return self.duties.why(model, now)

    # --- parts ------------------------------------------------------------------------------------

    def _take_own(self, event: Input, now: float, effects: list[Effect]) -> bool:
        """Take what the shell tells of this node itself; return whether anything changed."""
        match event:
            case ev.DiskScanned(models):
                lines = disk_lines(models, self.serving.options)
                self.own = replace(self.own, on_disk=models, disk_lines=lines)
                effects.extend(self.duties.take(event, now))
            case ev.ModelsAskedFor(names):
                self.own = replace(self.own, asked_for=names)
            case ev.CatalogueKnown() | ev.LaneSampled():
                effects.extend(self.duties.take(event, now))
            case ev.AddressesChanged(addresses):
                self.own = replace(self.own, addresses=addresses)
            case TableReceived(hosts):
                self.members.replace(hosts, now)
            case ev.PeerForgotten(node_id):
                self._view_due_s = now
                return self.members.forget(node_id)
            case _:
                return False
        return True

    def _serve(self, event: ev.Event, now: float) -> Iterable[Effect]:
        return self._held_back(self.serving.handle(event, now))

    def _held_back(self, found: Iterable[Effect]) -> Iterable[Effect]:
        """Pass effects on; the last act waits until the others were told."""
        for effect in found:
            if isinstance(effect, LeaveAndExit) and self._others_to_tell():
                self._last_act = effect
            else:
                yield effect

    def _others_to_tell(self) -> bool:
        return self.gossip is not None and not self._told_others and bool(self.gossip.linked)

    def _gossip(self, event: GossipEvent, now: float, effects: list[Effect]) -> bool:
        assert self.gossip is not None
        return self._take_gossip(self.gossip.handle(event, now), now, effects)

    def _take_gossip(
        self, found: Iterable[GossipEffect], now: float, effects: list[Effect]
    ) -> bool:
        """Sort gossip's effects: some are for this node, the rest goes out. True: members changed."""
        changed = False
        for effect in found:
            match effect:
                case PublishMembers(views):
                    self.members.take(views, now)
                    self.duties.members_changed(views, now)
                    changed = True
                case PublishNotice(topic, version, body):
                    effects.append(effect)
                    changed |= self._noticed(topic, version, body, now, effects)
                case RecordStory(kind, peer, text, level):
                    about = "" if peer == self.me.node_id else peer
                    effects.append(RecordEvent(kind, _sentence(text), level, node_id=about))
                case LeaveFinished():
                    self._told_others = True
                    if self._last_act is not None:
                        effects.append(self._last_act)
                case _:
                    effects.append(effect)
        return changed

    # --- the mesh's decisions about this node -----------------------------------------------------

    def _before_serving(self, event: ev.Event, now: float, effects: list[Effect]) -> None:
        """What the mesh must know of an operator's wish or drop, and the duties of an engine's report."""
        effects.extend(self.duties.take(event, now))
        if self.gossip is None:
            return
        match event:
            case ev.DropRequested(name, leave_after) if leave_after:
                self._tell_drop(name, True, now, effects)
            case ev.ModelWanted(model, _, asked, for_mesh):
                if not self.duties.tombstones.is_dropped(model.name):
                    return
                if for_mesh:
                    self.serving.expected.pop(asked or model.name, None)
                else:
                    self._tell_drop(model.name, False, now, effects)
            case _:
                pass

    def _decide(self, now: float, effects: list[Effect]) -> None:
        if self.gossip is None:
            return
        self.duties.reasons.now_unix_s = self._unix_ms(now) / 1000
        effects.extend(self._held_back(self.duties.decide(self.announcement(), now)))

    def _noticed(
        self, topic: str, version: int, body: bytes, now: float, effects: list[Effect]
    ) -> bool:
        """Obey a drop, and a drain of this node; True: it changed something.

        A drop of before this node came is older than its operator's `--model`, which lifts it.
        """
        word = self.drains.take(topic, version, body)
        if word is not None:
            self._tell_word(word, effects)
        if word is not None and word.subject == self.me.node_id:
            # What was meant for an earlier life of this node, before it was started again, is over.
            if word.life >= self.me.started_at * 1000:
                effects.extend(self.serving.drain(word.drained, now))
            return True
        model = self.duties.noticed(topic, version, body)
        if model is None:
            return model_of(topic) is not None
        serving = self.serving
        before = self.duties.dropped_before_joining(version, self._unix_ms(now), now)
        if before and self._asked_here(model):
            self._tell_drop(model, False, now, effects)
            return True
        if model in serving.expected:
            effects.extend(serving.give_back(model))
        # A worker of its split goes to standby, whatever it was started with (Pinned 9).
        leave = not self.duties.lends(model)
        effects.extend(self._serve(ev.DropRequested(model, leave_after=leave), now))
        return True

    def _tell_drop(
        self, model: ModelName, dropped: bool, now: float, effects: list[Effect]
    ) -> None:
        """Let everybody know that a model is dropped, or wanted again."""
        assert self.gossip is not None
        unix_ms = self._unix_ms(now)
        version = self.duties.tombstones.next_version(model, unix_ms)
        notice = drop_notice(self.gossip.identity, model, version, dropped, unix_ms // 1000)
        self.duties.noticed(notice.topic, notice.version, notice.body)
        self._take_gossip(self.gossip.handle(notice, now), now, effects)

    def _tell_word(self, word: DrainWord, effects: list[Effect]) -> None:
        view = self.members.get(word.subject)
        if view is not None:
            effects.append(word.story(view.announcement.name))

    def _drain(self, asked: ev.DrainRequested, now: float, effects: list[Effect]) -> None:
        """Drain this node, or let another one know that it is to be drained; or the reverse."""
        if asked.node_id == self.me.node_id:
            effects.extend(self.serving.drain(asked.drained, now))
            return
        view = self.members.get(asked.node_id)
        if self.gossip is None or view is None:
            return
        unix_ms = self._unix_ms(now)
        version = self.drains.next_version(asked.node_id, unix_ms)
        notice = drain_notice(
            self.gossip.identity, asked.node_id, version, asked.drained, view.incarnation,
            unix_ms // 1000,
        )  # fmt: skip
        word = self.drains.take(notice.topic, notice.version, notice.body)
        if word is not None:
            self._tell_word(word, effects)
        self._take_gossip(self.gossip.handle(notice, now), now, effects)

    def _asked_here(self, model: ModelName) -> bool:
        """Return whether the operator of this node asked for the model, here or of the mesh."""
        own = self.serving.causes.get(model) is Cause.OWN
        return own or any(match_name(wish, (model,)) for wish in self.own.asked_for)

    def _unix_ms(self, now: float) -> int:
        return int((now + (self._clock_offset_s or 0.0)) * 1000)

    def _say(self, now: float, effects: list[Effect]) -> None:
        """Let gossip know what this node says of itself, and that it goes."""
        if self.gossip is None:
            return
        said = AnnouncementChanged(self.announcement())
        self._take_gossip(self.gossip.handle(said, now), now, effects)
        # A stop does not wait for its engines: they may take seconds to end, and nobody is to ask them.
        done = self.serving.done_answering and not self.serving.lent_to
        if self._last_act is not None or done:
            self._take_gossip(self.gossip.handle(LeaveRequested(), now), now, effects)

    # --- what goes out ----------------------------------------------------------------------------

    def _look_at_clock(self, now: float) -> None:
        if self._clock_offset_s is None:
            self._clock_offset_s = self.me.started_at - now

    def _differences(self, now: float, *, urgent: bool) -> list[Effect]:
        effects: list[Effect] = []
        table = routing_table(self.me, self.serving, self.members.upstreams())
        if table != self._routes:
            self._routes = table
            effects.append(ChangeRoutes(table))
        if not urgent and now < self._viewed_s + VIEW_INTERVAL_S:
            self._view_due_s = min(self._view_due_s, self._viewed_s + VIEW_INTERVAL_S)
            return effects
        self._viewed_s, self._view_due_s = now, math.inf
        shown = self._state()
        put, drop = difference(self._shown, shown)
        if put or drop:
            self._shown = shown
            effects.append(PublishDelta(put, drop))
        return effects

    def _state(self) -> State:
        state = whole_state(
            self.me, self.serving, self.members, self.own, self.duties, self.announcement,
            self._clock_offset_s or 0.0,
        )  # fmt: skip
        if self.gossip is not None:
            looked_s = self.duties.looked_s
            self._needed.complete(state, looked_s, lambda: self.duties.snapshot(looked_s))
        return state


def _sentence(text: str) -> str:
    """Return a line of the story as a sentence. It may begin with a node's name, which stays as it is."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
