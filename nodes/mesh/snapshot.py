"""What viewers see of the node: a flat map of keys to small JSON objects.

One key, one owner, one object that is always replaced whole; so a viewer that applies every delta
(`put` replaces, `drop` removes) holds exactly what a fresh snapshot would give it.

Keys and their objects (all strings in them may be hostile: they come from files and peers):

- ``node``: ``{node_id, name, version, role, is_host, is_client, state, api_port, console_port,
  quic_port, api_url, console_url, needs_key, started_at, mesh_id}``; state is ``starting``, ``serving``,
  ``waiting``, ``failed``, ``draining``, ``drained`` or ``stopping``. Optional: ``approval:
  bool`` (new machines wait for an operator).
- ``engine``: ``{state: "missing" | "found", version, build, rpc_version, source, reason, starts}``.
- ``resources``: the fields of `resources.Resources`, bytes and percent, plus ``used_bytes`` (what
  this node's plans take of `offered_bytes`).
- ``model/<name>``: what the mesh knows of one model, this node's own part of it first: ``{name, title,
  status: "warm" | "loading" | "cold", state, phase, progress, reason, size_bytes, architecture,
  quantisation, parameters, layers, context, slots, capabilities, need_bytes, node_count, nodes: [node id],
  starts, in_flight, requests, tokens, requests_per_s, tokens_per_s, ttfb_p50_ms, draft, draft_tokens,
  draft_acceptance, on_disk: [node id], wanted_by: [node id], dropped: bool, hosts: [{node_id, state, slots,
  context, in_flight, tokens_per_s, ttfb_p50_ms}]}``; `node_count` and `nodes` count every node where it can
  answer now; `draft` guesses ahead for the engine that runs here, and `draft_acceptance` (0 to 1) of its
  `draft_tokens` guesses were right; None: nothing guessed yet. Optional: ``needed`` (one sentence: what a
  cold one would need), ``bytes_per_s`` (of its download), and in each host ``workers: [{node_id, share,
  layers, via, rtt_ms}]`` (who computes a split with it), so that every viewer can draw every split; ``via``
  is None where the host does not tell, ``share`` is of the model's layers.
- ``peer/<node id>``: ``{id, name, role: "host" | "worker" | "standby" | "drained", state: "alive" | "late" |
  "suspect" | "dead" | "left", serving: [name], vram_gb, rtt_ms, version, addresses, on_disk: [name],
  wanted: [name], used_gb, in_flight, tokens_per_s, lane: "tcp" | "quic" | null, since}``; `late` missed its
  latest probe and is used last; `since` is Unix seconds of the last change of `state`. Those that died or
  left stay for `view.GONE_SHOWN_S`, so that a viewer sees what happened.
- ``pending/<node id>``: ``{id, name, software, address, since}``: a machine that waits to be approved.
- ``split``: ``{model, rpc_entries: [{node_id, via: "local" | "lane" | "quic", share, layers, rtt_ms,
  bytes_sent, bytes_saved, bytes_per_s}], tensor_split: [share] | null, reason, tokens_per_s,
  expected_tokens_per_s}``.
- ``notice/<kind>``: ``{level, text}``: something a person should know now (a GPU that is not used,
  a database that is read-only); dropped when it no longer holds.

History (`effects.RecordEvent`) and engine log lines travel beside the map: they are appended, never
replaced. A history entry is ``{at, kind, level, text, model, node}``, `node` the id of the node that it
is about, or empty; of an election also ``{term, host, workers: [node id]}``.
"""

from typing import Any

Entry = dict[str, Any]
"""One JSON object of the map."""

State = dict[str, Entry]
"""The whole map."""


def apply_delta(state: State, put: State, drop: tuple[str, ...]) -> State:
    """Return the map after one delta; the old one is not changed."""
    after = {key: entry for key, entry in state.items() if key not in drop}
    after.update(put)
    return after


def difference(before: State, after: State) -> tuple[State, tuple[str, ...]]:
    """Return the (put, drop) that turns `before` into `after`; both empty when they are equal."""
    put = {key: entry for key, entry in after.items() if before.get(key) != entry}
    return put, tuple(key for key in before if key not in after)
