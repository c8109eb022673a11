// The machines of the mesh as views show them: this node and its peers in one form, and who splits what.
import { store } from "./store.js";

/** state -> [tone, sign, word, sentence]: the sign and the word carry what the colour does. */
export const STANDING = {
  alive: ["good", "●", "Alive", "It answers."],
  late: ["busy", "◔", "Late", "It missed its latest probe and is used last."],
  suspect: ["busy", "▲", "Suspect", "It does not answer; others are asked whether they reach it."],
  dead: ["bad", "✕", "Dead", "Nobody reaches it. It may come back by itself."],
  left: ["idle", "○", "Left", "It said goodbye."],
  pending: ["busy", "?", "Asks to join", "It waits until an operator approves it."],
  serving: ["good", "●", "Serving", "It answers requests."],
  starting: ["busy", "◐", "Starting", "Its model is not ready yet."],
  waiting: ["idle", "○", "Waiting", "It has nothing to serve."],
  failed: ["bad", "✕", "Failed", "It cannot serve what it was asked for."],
  draining: ["busy", "◑", "Draining", "It takes no new requests; open answers may finish."],
  drained: ["idle", "‖", "Drained", "It serves nothing and takes nothing up until it is undrained or started again."],
  stopping: ["busy", "◑", "Stopping", "Open answers may finish; then it leaves."],
};
export const standing = (machine) => STANDING[machine.state] ?? ["idle", "○", String(machine.state || "Unknown"), ""];

const ROLES = { host: "Host", worker: "Worker", standby: "Standby", client: "Client", drained: "Drained", pending: "Not a member" };
export const roleOf = (machine) => ROLES[machine.role] ?? String(machine.role || "–");

export const GONE = new Set(["dead", "left"]);
const number = (value) => (Number.isFinite(value) ? value : 0);
const texts = (value) => (Array.isArray(value) ? value.map(String) : []);

function modelsByNode() {
  const found = new Map();
  for (const model of store.all("model/")) {
    const hosts = model.hosts ?? (model.nodes ?? []).map((id) => ({ ...model, node_id: id }));
    for (const host of hosts) {
      const list = found.get(host.node_id) ?? [];
      list.push({ name: model.name, state: host.state, busy: number(host.in_flight), slots: number(host.slots), speed: number(host.tokens_per_s) });
      found.set(host.node_id, list);
    }
  }
  return found;
}

const sum = (list, key) => list.reduce((total, item) => total + item[key], 0);

function myself(me, models) {
  const resources = store.get("resources");
  return {
    id: me.node_id, name: me.name || "Unnamed", you: true, role: me.role, state: me.state, models,
    offeredGb: number(resources.offered_bytes) / 1e9, usedGb: number(resources.used_bytes) / 1e9,
    busy: sum(models, "busy"), speed: sum(models, "speed"), version: me.version || "", rtt: null, lane: null,
    since: me.started_at, addresses: [], onDisk: [], wanted: [],
  };
}

/** A drained machine says so by its role; while an engine still ends there, open answers may finish. */
function stateOf(peer, models) {
  if (peer.role !== "drained" || peer.state !== "alive") return peer.state;
  return models.length ? "draining" : "drained";
}

function fromPeer(peer, known) {
  // What it says of itself counts; the models' own hosts know states and slots.
  const models = known.length ? known : texts(peer.serving).map((name) => ({ name, state: "ready", busy: 0, slots: 0, speed: 0 }));
  return {
    id: String(peer.id), name: peer.name || String(peer.id).slice(0, 12), you: false, role: peer.role, state: stateOf(peer, models),
    models: GONE.has(peer.state) ? [] : models, offeredGb: number(peer.vram_gb), usedGb: number(peer.used_gb),
    busy: number(peer.in_flight), speed: number(peer.tokens_per_s), version: peer.version || "",
    rtt: peer.rtt_ms, lane: peer.lane, since: peer.since, addresses: texts(peer.addresses),
    onDisk: texts(peer.on_disk), wanted: texts(peer.wanted),
  };
}

function fromPending(entry) {
  return {
    id: String(entry.id), name: entry.name || String(entry.id).slice(0, 12), you: false, role: "pending", state: "pending",
    models: [], offeredGb: 0, usedGb: 0, busy: 0, speed: 0, version: entry.software || "", rtt: null, lane: null,
    since: entry.since, addresses: entry.address ? [String(entry.address)] : [], onDisk: [], wanted: [],
  };
}

/** Every machine, this one first, then by name. */
export function machines() {
  const byNode = modelsByNode();
  const me = store.get("node");
  const peers = store.all("peer/").map((peer) => fromPeer(peer, byNode.get(peer.id) ?? []));
  const others = [...peers, ...store.all("pending/").map(fromPending)];
  others.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || (a.id < b.id ? -1 : 1));
  return me.node_id ? [myself(me, byNode.get(me.node_id) ?? []), ...others] : others;
}

/** {model, host, parts: [{id, share, via, rtt, layers}]} of every split that is known; the host is no part. */
export function splits() {
  const found = [];
  const { model, rpc_entries: entries = [] } = store.get("split");
  if (entries.length > 1) found.push({ model: model ?? "", host: entries[0].node_id, hostShare: entries[0].share, parts: entries.slice(1).map(part) });
  for (const entry of store.all("model/")) {
    for (const host of entry.hosts ?? []) {
      const workers = host.workers ?? [];
      if (!workers.length || found.some((split) => split.host === host.node_id)) continue;
      found.push({ model: entry.name, host: host.node_id, hostShare: 1 - sum(workers, "share"), parts: workers.map(part) });
    }
  }
  return found;
}

const part = (entry) => ({ id: entry.node_id, share: entry.share, via: entry.via, rtt: entry.rtt_ms, layers: entry.layers });

export const LANES = { tcp: "TCP lane", lane: "TCP lane", quic: "QUIC", local: "here" };

export function nameOf(id) {
  const me = store.get("node");
  if (id === me.node_id) return me.name || "this node";
  return store.get(`peer/${id}`).name || store.get(`pending/${id}`).name || String(id).slice(0, 12);
}
