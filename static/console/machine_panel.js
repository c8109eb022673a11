// One machine: everything that is known of it, its story, and what may be done with it.
import { act, showOutcome } from "./actions.js";
import { isOperator } from "./api.js";
import { byId, button, copyText, el, keyed, setBar, setFacts, setPill, setText } from "./dom.js";
import { ago, bytes, clock, count, gb, ms, percent, rate } from "./format.js";
import { GONE, LANES, nameOf, roleOf, splits, standing } from "./machines.js";
import { store } from "./store.js";
import { eventLine } from "./timeline.js";

const STORY_MAX = 30;
let outcome = null;

function ownFacts(me) {
  const resources = store.get("resources");
  const engine = store.get("engine");
  const engineWord = engine.state === "missing" ? "Missing" : `llama.cpp ${engine.version || ""}`;
  return [
    ["Processor", resources.cpu_count ? `${Math.round(resources.cpu_percent)} % of ${count(resources.cpu_count, "core")}` : ""],
    ["Devices", resources.devices?.length ? resources.devices.map((device) => device.description || device.name).join(", ") : "CPU"],
    ["Memory of node", resources.process_rss_bytes ? bytes(resources.process_rss_bytes) : ""],
    ["Memory of engines", resources.engine_rss_bytes ? bytes(resources.engine_rss_bytes) : ""],
    ["Engine", engineWord], ["Engine starts", engine.starts ?? ""],
    ["Up since", me.started_at ? clock(me.started_at) : ""],
  ];
}

function splitFacts(machine) {
  const all = splits();
  const hosted = all.find((split) => split.host === machine.id);
  if (hosted) return [["Split", `Hosts ${hosted.model}: ${percent(hosted.hostShare)} here, the rest on ${hosted.parts.map((part) => nameOf(part.id)).join(", ")}`]];
  const split = all.find((one) => one.parts.some((part) => part.id === machine.id));
  if (!split) return [];
  const part = split.parts.find((one) => one.id === machine.id);
  const layers = Number.isFinite(part.layers) ? `, ${count(part.layers, "layer")}` : "";
  return [["Split", `${percent(part.share)} of ${split.model}${layers}, for ${nameOf(split.host)} by ${LANES[part.via] ?? part.via}`]];
}

function factsOf(machine) {
  const me = store.get("node");
  const other = !machine.you && machine.version && machine.version !== me.version;
  return [
    ["Role", roleOf(machine)],
    [machine.state === "pending" ? "Asked" : machine.you ? "" : "Since", machine.since && !machine.you ? ago(machine.since) : ""],
    ["Load", machine.models.length ? `${count(machine.busy, "request")} under way, ${rate(machine.speed)} tokens/s` : ""],
    ["Round trip", Number.isFinite(machine.rtt) ? ms(machine.rtt) : ""],
    ["Link", machine.you || machine.state === "pending" || GONE.has(machine.state) ? "" : machine.lane === "tcp" ? "QUIC, and the TCP lane for splits" : "QUIC"],
    ...splitFacts(machine),
    ...(machine.you ? ownFacts(me) : []),
    ["Version", `${machine.version || "–"}${other ? ` (this node: ${me.version})` : ""}`],
    ["On disk", machine.onDisk.join(", ")], ["Asked for", machine.wanted.join(", ")],
    ["Addresses", machine.addresses.join(", ")],
  ].filter(([name]) => name);
}

function actionsOf(machine) {
  if (machine.state === "pending") return [["approve", machine.id, "Approve", "primary"], ["reject", machine.id, "Turn away", "danger"]];
  const served = machine.models.filter(({ state }) => state !== "draining").map(({ name }) => name);
  const drops = served.map((name) => ["drop", name, `Stop serving ${name} everywhere`, ""]);
  const drain = machine.role === "drained" ? ["undrain", machine.id, "Let it serve again", "primary"] : ["drain", machine.id, "Drain", ""];
  const out = [["revoke", machine.id, "Revoke", "danger"], ["block", machine.id, "Block", "danger"]];
  if (machine.role === "client") return [["stop", "", "Stop this node", "danger"]];
  if (machine.you) {
    return [
      ...served.map((name) => ["restart", name, `Restart the engine of ${name}`, ""]),
      ...drops, drain, ["stop", "", "Stop this node", "danger"],
    ];
  }
  if (GONE.has(machine.state)) return [["forget", machine.id, "Forget", ""], ...out];
  return [...drops, drain, ...out];
}

function renderActions(machine) {
  const found = new Map(actionsOf(machine).map((one) => [`${one[0]} ${one[1]}`, one]));
  keyed(byId("panel-actions"), [...found.keys()], (key) => {
    const [action, target, label, kind] = found.get(key);
    return button(label, async () => {
      const of = byId("panel").dataset.machine;
      await act(action, target, byId("panel-name").textContent, (told) => {
        outcome = { of, ...told };
        renderOutcome();
        byId("panel-outcome").scrollIntoView({ block: "nearest" });
      });
    }, { class: `button small ${kind}` });
  }, () => {});
  byId("panel-viewer").hidden = isOperator();
  byId("panel-actions").hidden = !isOperator();
}

function renderOutcome() {
  const line = byId("panel-outcome");
  showOutcome(line, outcome?.of === byId("panel").dataset.machine ? outcome : null);
}

function renderModels(machine) {
  const models = new Map(machine.models.map((model) => [model.name, model]));
  keyed(byId("panel-models"), [...models.keys()],
    () => el("li", {}, el("span", { class: "model-name" }), el("span", { class: "muted small-text num" })),
    (item, name) => {
      const { state, busy, slots, speed } = models.get(name);
      setText(item.firstElementChild, name);
      setText(item.lastElementChild, [state, slots ? `${busy} of ${slots} slots busy` : "", speed ? `${rate(speed)} tok/s` : ""].filter(Boolean).join(" · "));
    });
  byId("panel-models").hidden = !models.size;
}

// Of others: what is about them. Of this node: what is about it, or about nobody in particular.
const concerns = (machine) => (entry) => (entry.node ? entry.node === machine.id : machine.you);

function renderStory(machine) {
  const lines = store.history.filter(concerns(machine)).slice(-STORY_MAX).reverse().map((entry) => eventLine(entry, "story"));
  const list = byId("panel-story");
  if (lines.length !== list.children.length || lines.some((line, index) => list.children[index] !== line)) list.replaceChildren(...lines);
  byId("panel-story-empty").hidden = lines.length > 0;
}

export function renderPanel(machine) {
  const panel = byId("panel");
  panel.dataset.machine = machine.id;
  const [tone, sign, word, sentence] = standing(machine);
  setText(byId("panel-name"), machine.name);
  setText(byId("panel-you"), machine.you ? "this node" : "");
  setPill(byId("panel-state"), tone, word, sign);
  setText(byId("panel-sentence"), sentence);
  byId("panel-memory-block").hidden = !machine.offeredGb;
  if (machine.offeredGb) {
    const words = `${gb(machine.usedGb)} of ${gb(machine.offeredGb)}`;
    setBar(byId("panel-memory"), machine.usedGb / machine.offeredGb);
    byId("panel-memory").setAttribute("aria-valuetext", words);
    setText(byId("panel-memory-text"), words);
  }
  const reason = machine.you && store.get("engine").state === "missing" ? store.get("engine").reason : "";
  byId("panel-reason").hidden = !reason;
  setText(byId("panel-reason"), reason);
  renderModels(machine);
  setFacts(byId("panel-facts"), factsOf(machine));
  setText(byId("panel-id"), machine.id);
  renderActions(machine);
  renderOutcome();
  renderStory(machine);
}

export function startPanel(onClose) {
  byId("panel-close").addEventListener("click", onClose);
  byId("panel").addEventListener("keydown", (event) => { if (event.key === "Escape") onClose(); });
  byId("panel-copy").addEventListener("click", (event) => copyText(byId("panel-id").textContent, event.currentTarget));
}
