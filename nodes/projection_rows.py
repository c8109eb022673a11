"""Which rows a batch of the feed becomes. Blocking; called on the projection's thread only."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from models_registry.models import (
    LAUNCH_RECORDS_MAX,
    SERVED_MODELS_MAX,
    LaunchRecord,
    ServedModel,
)
from nodes.mesh.snapshot import Entry, State
from nodes.models import ELECTIONS_MAX, MESH_EVENTS_MAX, PEERS_MAX, Election, MeshEvent, Peer
from proxy.models import USAGE_ROWS_MAX, Usage

UsageKey = tuple[str, datetime]
"""(model, hour in UTC)."""

Rows = dict[str, dict[str, Any]]
"""Columns of each row, by what tells the row from others."""

REFRESH = timedelta(seconds=60)
"""How often every row is written though it has not changed: `last_seen` is that old at most, and a row
that somebody deleted comes back."""


@dataclass(slots=True)
class Written:
    """What is in the database of peers and models, so that only what changes is written."""

    peers: Rows = field(default_factory=dict)
    models: Rows = field(default_factory=dict)
    launches: Rows = field(default_factory=dict)
    """What starts of engines are told from, by model."""
    all_at: datetime | None = None
    """When all of them were written last; None: never."""


_LEVELS = frozenset(MeshEvent.Level.values)


def write_batch(
    state: State | None,
    history: Iterable[dict[str, Any]],
    usage: dict[UsageKey, tuple[int, int, int, int]],
    written: "Written | None" = None,
) -> None:
    """Write everything in one transaction, then prune what is beyond the named maxima.

    `written` says what is in the database already and is brought up to date; None: nothing is known.

    Raises:
        django.db.Error: nothing of it was written.
    """
    known = written or Written()
    fresh = known
    with transaction.atomic():
        if state is not None:
            now = timezone.now()
            due = known.all_at is None or now - known.all_at >= REFRESH
            peers, served, launches = _peer_rows(state), _model_rows(state), _launch_facts(state)
            _write_peers(peers, {} if due else known.peers, now)
            _write_models(served, {} if due else known.models, now)
            if due or launches != known.launches:
                _write_launches(state, now)
            fresh = Written(peers, served, launches, now if due else known.all_at)
        _write_history(list(history))
        for (model, hour), numbers in usage.items():
            _add_usage(model, hour, numbers)
    known.peers, known.models = fresh.peers, fresh.models
    known.launches, known.all_at = fresh.launches, fresh.all_at


def close_open_launches() -> None:
    """Say of starts that a former process left open that their end was not seen."""
    LaunchRecord.objects.filter(ended_at=None).update(
        ended_at=timezone.now(), outcome="The node ended before this engine's end was seen."
    )
    Peer.objects.update(present=False)
    ServedModel.objects.update(present=False)


def _text(value: Any, max_chars: int) -> str:
    # PostgreSQL refuses NUL in text; names of files and peers may hold one.
    return str(value or "").replace("\x00", "")[:max_chars]


def _number(value: Any) -> int | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63
    return int(value) if good else None


def _small(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else min(number, 2**31 - 1)


def _list(value: Any) -> list[Any]:
    return list(value)[:200] if isinstance(value, list | tuple) else []


def _peer_rows(state: State) -> Rows:
    """Return the columns of each node by its id, this one included."""
    peers: dict[str, Entry] = {}
    for key, entry in state.items():
        if key.startswith("peer/"):
            peers[str(entry.get("id") or key.removeprefix("peer/"))] = entry
    me = state.get("node")
    if me and me.get("node_id"):
        offered = state.get("resources", {}).get("offered_bytes")
        warm = [
            e.get("name")
            for k, e in state.items()
            if k.startswith("model/") and e.get("status") == "warm"
        ]
        mine = {"vram_gb": offered / 1e9 if offered else None, "serving": warm, "is_self": True}
        peers[str(me["node_id"])] = {**me, **mine}
    return {
        _text(node_id, 64): {
            "name": _text(entry.get("name"), 200),
            "role": _text(entry.get("role"), 32),
            "state": _text(entry.get("state"), 32),
            "serving": _list(entry.get("serving")),
            "vram_gb": entry.get("vram_gb"),
            "rtt_ms": entry.get("rtt_ms"),
            "version": _text(entry.get("version"), 64),
            "is_self": bool(entry.get("is_self")),
            "present": True,
        }
        for node_id, entry in peers.items()
    }


def _write_peers(rows: Rows, known: Rows, now: datetime) -> None:
    changed = _changed(rows, known, but="rtt_ms")  # It trembles: it is written with the rest.
    if changed:
        found = [Peer(node_id=i, last_seen=now, **columns) for i, columns in changed.items()]
        Peer.objects.bulk_create(
            found,
            update_conflicts=True,
            unique_fields=["node_id"],
            update_fields=[*next(iter(changed.values())), "last_seen"],
            batch_size=100,
        )
    if rows.keys() == known.keys():
        return
    gone = Peer.objects.filter(present=True).exclude(node_id__in=rows)
    gone.update(present=False, state="gone")
    _prune(Peer.objects.order_by("-is_self", "-present", "-last_seen"), PEERS_MAX)


def _model_rows(state: State) -> Rows:
    """Return the columns of each model by its name."""
    return {
        _text(entry.get("name") or key.removeprefix("model/"), 300): {
            "title": _text(entry.get("title"), 300),
            "status": _text(entry.get("status"), 16),
            "state": _text(entry.get("state"), 32),
            "reason": _text(entry.get("reason"), 4000),
            "size_bytes": _number(entry.get("size_bytes")),
            "architecture": _text(entry.get("architecture"), 64),
            "quantisation": _text(entry.get("quantisation"), 32),
            "context": _small(entry.get("context")),
            "slots": _small(entry.get("slots")),
            "capabilities": _list(entry.get("capabilities")),
            "nodes": _list(entry.get("nodes")),
            "node_count": _small(entry.get("node_count")) or 0,
            "present": True,
        }
        for key, entry in state.items()
        if key.startswith("model/")
    }


def _write_models(rows: Rows, known: Rows, now: datetime) -> None:
    changed = _changed(rows, known)
    if changed:
        found = [ServedModel(name=i, updated_at=now, **columns) for i, columns in changed.items()]
        ServedModel.objects.bulk_create(
            found,
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=[*next(iter(changed.values())), "updated_at"],
            batch_size=50,
        )
    if rows.keys() == known.keys():
        return
    ServedModel.objects.filter(present=True).exclude(name__in=rows).update(
        present=False, status="cold", updated_at=now
    )
    _prune(ServedModel.objects.order_by("-present", "-updated_at"), SERVED_MODELS_MAX)


def _changed(rows: Rows, known: Rows, but: str = "") -> Rows:
    """Return the rows that differ from the known ones in more than the column `but`."""
    return {
        key: columns
        for key, columns in rows.items()
        if key not in known or {**known[key], but: None} != {**columns, but: None}
    }


def _launch_facts(state: State) -> Rows:
    kept = ("starts", "state", "status", "reason", "context", "slots", "need_bytes")
    found = {k: {f: e.get(f) for f in kept} for k, e in state.items() if k.startswith("model/")}
    return {**found, "engine": {"version": state.get("engine", {}).get("version")}}


def _write_launches(state: State, now: datetime) -> None:
    engine_version = _text(state.get("engine", {}).get("version"), 64)
    running = set()
    open_rows = {row.model: row for row in LaunchRecord.objects.filter(ended_at=None)}
    for key, entry in state.items():
        if not key.startswith("model/"):
            continue
        name = _text(entry.get("name") or key.removeprefix("model/"), 300)
        number = _small(entry.get("starts")) or 0
        if number and entry.get("state") in ("loading", "ready", "draining"):
            running.add(name)
            _note_launch(name, number, entry, engine_version, open_rows.get(name), now)
    for name, row in open_rows.items():
        if name not in running:
            entry = state.get(f"model/{name}", {})
            row.outcome = _text(entry.get("reason"), 4000) or "Stopped."
            row.ended_at = now
            row.save(update_fields=["outcome", "ended_at"])
    _prune(LaunchRecord.objects.order_by("-started_at", "-id"), LAUNCH_RECORDS_MAX)


def _note_launch(
    name: str,
    number: int,
    entry: Entry,
    engine_version: str,
    row: LaunchRecord | None,
    now: datetime,
) -> None:
    if row is not None and row.number != number:
        row.outcome = _text(entry.get("reason"), 4000) or "Ended; it was started again."
        row.ended_at = now
        row.save(update_fields=["outcome", "ended_at"])
        row = None
    if row is None:
        row = LaunchRecord(model=name, number=number, started_at=now)
    row.engine_version = engine_version
    row.context, row.slots = _small(entry.get("context")), _small(entry.get("slots"))
    row.need_bytes = _number(entry.get("need_bytes"))
    if entry.get("status") == "warm" and row.ready_at is None:
        row.ready_at = now
    row.save()


def _write_history(entries: list[dict[str, Any]]) -> None:
    events = []
    for entry in entries:
        at = _moment(entry.get("at"))
        level = entry.get("level") if entry.get("level") in _LEVELS else MeshEvent.Level.INFO
        model, text = _text(entry.get("model"), 300), _text(entry.get("text"), 4000)
        kind = _text(entry.get("kind"), 64)
        node_id = _text(entry.get("node"), 64)
        events.append(
            MeshEvent(at=at, kind=kind, level=str(level), model=model, node_id=node_id, text=text)
        )
        if kind.startswith("election"):
            host, term = _text(entry.get("host"), 64), _number(entry.get("term"))
            workers = _list(entry.get("workers"))
            Election.objects.create(
                at=at, model=model, term=term, host=host, workers=workers, text=text
            )
    if events:
        MeshEvent.objects.bulk_create(events, batch_size=500)
        _prune(MeshEvent.objects.order_by("-id"), MESH_EVENTS_MAX)
        _prune(Election.objects.order_by("-id"), ELECTIONS_MAX)


def _moment(seconds: Any) -> datetime:
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return timezone.now()


def _add_usage(model: str, hour: datetime, numbers: tuple[int, int, int, int]) -> None:
    requests, prompt, completion, errors = numbers
    row, _ = Usage.objects.get_or_create(model=_text(model, 300), hour=hour)
    Usage.objects.filter(pk=row.pk).update(
        requests=F("requests") + requests,
        prompt_tokens=F("prompt_tokens") + prompt,
        completion_tokens=F("completion_tokens") + completion,
        errors=F("errors") + errors,
    )
    _prune(Usage.objects.order_by("-hour", "-id"), USAGE_ROWS_MAX)


def _prune(newest_first: "models.QuerySet[Any]", keep: int) -> None:
    """Delete what comes after the first `keep` rows."""
    beyond = list(newest_first.values_list("pk", flat=True)[keep : keep + 1000])
    if beyond:
        newest_first.model._default_manager.filter(pk__in=beyond).delete()
