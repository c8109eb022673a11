// The mesh view: figures, drawing or table, and the machine that is looked at.
import { canJoin } from "./api.js";
import { byId, setBar, setText } from "./dom.js";
import { count, duration, gb, rate, whole } from "./format.js";
import { lit } from "./lit.js";
import { renderPanel, startPanel } from "./machine_panel.js";
import { MachineTable } from "./machine_table.js";
import { GONE, machines, splits } from "./machines.js";
import { store } from "./store.js";
import { Topology } from "./topology.js";
import { DRAWING_MAX } from "./topology_layout.js";

const GHOST_MAX = 3;
const phone = matchMedia("(max-width: 860px)");
let topology;
let table;
let selected = "";
let opener = null;
let asked = ""; // "drawing" or "table", once somebody chose

function figures(all) {
  const here = all.filter((machine) => !GONE.has(machine.state) && machine.state !== "pending");
  const gone = all.filter((machine) => GONE.has(machine.state)).length;
  const models = store.all("model/");
  const warm = models.filter((model) => model.status === "warm").length;
  const sum = (key) => here.reduce((total, machine) => total + machine[key], 0);
  const [used, offered] = [sum("usedGb"), sum("offeredGb")];
  setText(byId("fig-machines"), whole(here.length));
  const silent = here.filter((machine) => ["late", "suspect"].includes(machine.state)).length;
  const drained = here.filter((machine) => machine.role === "drained").length;
  const notes = [silent && `${silent} slow to answer`, drained && `${drained} drained`, gone && `${gone} gone`].filter(Boolean).map((note) => `· ${note}`).join(" ");
  setText(byId("fig-machines-note"), notes || (here.length > 1 ? "all reachable" : "just this one"));
  setText(byId("fig-models"), whole(warm));
  setText(byId("fig-models-note"), models.length > warm ? `of ${models.length} known` : warm ? "ready to answer" : "none yet");
  setText(byId("fig-memory"), gb(used));
  setText(byId("fig-memory-note"), `of ${gb(offered)} in use`);
  setBar(byId("fig-memory-bar"), offered ? used / offered : 0);
  const requests = models.reduce((total, model) => total + (model.requests_per_s || 0), 0);
  const speed = models.reduce((total, model) => total + (model.tokens_per_s || 0), 0);
  setText(byId("fig-speed"), rate(speed));
  setText(byId("fig-speed-note"), `tokens/s · ${requests.toFixed(1)} req/s`);
  summary(here, warm);
}

function summary(here, warm) {
  const node = store.get("node");
  const up = node.started_at ? `, this node up for ${duration(Date.now() / 1000 - node.started_at)}` : "";
  setText(byId("mesh-summary"), `${count(here.length, "machine")}, ${count(warm, "model")} ready to answer${up}.`);
}

function asTable(all) {
  if (asked) return asked === "table";
  return all.length > (phone.matches ? DRAWING_MAX / 4 : DRAWING_MAX);
}

function render() {
  const all = machines();
  if (!all.some((machine) => machine.id === selected)) selected = all[0]?.id ?? "";
  figures(all);
  const view = { selected, lit: lit.model, mine: store.get("node").version, ghost: canJoin() && all.length <= GHOST_MAX };
  const inTable = asTable(all);
  byId("topology").hidden = inTable;
  byId("machine-table").hidden = !inTable;
  for (const [id, on] of [["show-drawing", !inTable], ["show-table", inTable]]) byId(id).setAttribute("aria-pressed", on);
  if (inTable) table.draw(all, view);
  else topology.draw(all, splits(), view);
  byId("lit").hidden = !lit.model;
  setText(byId("lit-text"), lit.model ? `Highlighted: who answers ${lit.model}` : "");
  const machine = all.find((one) => one.id === selected);
  if (machine) renderPanel(machine);
}

function select(id, from) {
  selected = id;
  opener = from;
  render();
  if (!phone.matches) return;
  byId("panel").classList.add("open");
  byId("panel-close").focus();
}

function close() {
  byId("panel").classList.remove("open");
  opener?.focus();
}

export function startMesh() {
  topology = new Topology(byId("topology"), select);
  table = new MachineTable(select);
  startPanel(close);
  try { asked = sessionStorage.getItem("mesh-shape") ?? ""; } catch { /* it holds for this page only */ }
  const choose = (shape) => () => {
    asked = shape;
    try { sessionStorage.setItem("mesh-shape", shape); } catch { /* as above */ }
    render();
  };
  byId("show-drawing").addEventListener("click", choose("drawing"));
  byId("show-table").addEventListener("click", choose("table"));
  byId("lit-clear").addEventListener("click", () => lit.set(""));
  const again = store.watch(["node", "peer/", "pending/", "model/", "resources", "split", "engine"], render, "mesh");
  store.watchHistory(again);
  lit.addEventListener("change", again);
  new ResizeObserver(again).observe(byId("topology-card"));
  addEventListener("viewshown", again);
  setInterval(() => { if (store.seq >= 0 && !document.hidden) again(); }, 15000);
}
