// Header, this node's card and notices.
import { byId, el, keyed, setBar, setPill, setText } from "./dom.js";
import { bytes, clock, count, duration } from "./format.js";
import { live } from "./socket.js";
import { store } from "./store.js";

const STATES = {
  serving: ["good", "Serving"], starting: ["busy", "Starting"], waiting: ["busy", "Waiting"],
  failed: ["bad", "Failed"], stopping: ["busy", "Stopping"],
};
const PHASES = {
  connecting: ["busy", "Connecting"], live: ["good", "Live"],
  reconnecting: ["busy", "Reconnecting"], stale: ["bad", "Not live: reconnecting"],
};
const ROLES = { host: "Host", worker: "Worker", standby: "Standby", client: "Client" };

function renderNode() {
  const node = store.get("node");
  for (const id of ["node-name", "card-name"]) {
    setText(byId(id), node.name || "Unnamed node");
    byId(id).classList.remove("skeleton");
  }
  const [tone, word] = STATES[node.state] ?? ["idle", node.state || "Unknown"];
  setPill(byId("node-state"), tone, word);
  setText(byId("card-role"), ROLES[node.role] ?? node.role ?? "–");
}

function memoryOf(resources) {
  const { offered_bytes: offered, used_bytes: used } = resources;
  if (!offered) return;
  setBar(byId("memory"), used / offered);
  setText(byId("memory-text"), `${bytes(used)} of ${bytes(offered)}`);
  byId("memory").setAttribute("aria-valuetext", `${bytes(used)} of ${bytes(offered)}`);
}

function renderFacts() {
  const node = store.get("node");
  const resources = store.get("resources");
  const engine = store.get("engine");
  const models = store.all("model/");
  const first = models.find((model) => model.status === "warm") ?? models[0] ?? {};
  memoryOf(resources);
  const engineText = engine.state === "missing" ? "Missing" : `llama.cpp ${engine.version || ""}`;
  const facts = [
    ["Model", first.name || "None"],
    ["Context", first.context ? count(first.context, "token") : "–"],
    ["Slots", first.slots ? `${first.in_flight ?? 0} of ${first.slots} busy` : "–"],
    ["Processor", resources.cpu_count ? `${Math.round(resources.cpu_percent)} % of ${count(resources.cpu_count, "core")}` : "–"],
    ["Memory of node", resources.process_rss_bytes ? bytes(resources.process_rss_bytes) : "–"],
    ["Memory of engine", resources.engine_rss_bytes ? bytes(resources.engine_rss_bytes) : "–"],
    ["Engine", engineText],
    ["Devices", resources.devices?.length ? resources.devices.map((d) => d.description || d.name).join(", ") : "CPU"],
    ["Version", node.version || "–"],
    ["Up since", node.started_at ? clock(node.started_at) : "–"],
    ["Engine starts", engine.starts ?? "–"],
    ["Node id", node.node_id ? node.node_id.slice(0, 12) : "–"],
  ];
  const values = new Map(facts);
  keyed(byId("node-facts"), [...values.keys()],
    (name) => el("div", {}, el("dt", {}, name), el("dd")),
    (item, name) => setText(item.lastElementChild, values.get(name)));
  const reason = engine.state === "missing" ? engine.reason : "";
  byId("engine-reason").hidden = !reason;
  setText(byId("engine-reason"), reason);
}

function renderSummary() {
  const peers = store.all("peer/").length;
  const warm = store.warmModels().length;
  const node = store.get("node");
  const up = node.started_at ? `, up for ${duration(Date.now() / 1000 - node.started_at)}` : "";
  setText(byId("mesh-summary"), `${count(peers + 1, "machine")}, ${count(warm, "model")} ready to answer${up}.`);
}

function renderNotices() {
  const notices = new Map([...store.state].filter(([key]) => key.startsWith("notice/")));
  keyed(byId("notices"), [...notices.keys()].sort(),
    () => el("p", { class: "callout" }),
    (item, key) => {
      const { level, text } = notices.get(key);
      item.className = `callout ${level === "error" ? "bad" : "warn"}`;
      setText(item, `${level === "error" ? "Error" : "Note"}: ${text}`);
    });
}

function renderPhase() {
  const [tone, word] = PHASES[live.phase];
  setPill(byId("connection"), tone, word);
  document.body.dataset.phase = live.phase;
}

export function startStatus() {
  store.watch(["node"], renderNode);
  store.watch(["node", "resources", "engine", "model/"], renderFacts);
  store.watch(["node", "peer/", "model/"], renderSummary);
  store.watch(["notice/"], renderNotices);
  setInterval(() => { if (store.seq >= 0 && !document.hidden) renderSummary(); }, 30000);
  live.addEventListener("phase", renderPhase);
  renderPhase();
}
