// The models: short on the mesh view, in full on their own.
import { act, perform, showOutcome } from "./actions.js";
import { isOperator } from "./api.js";
import { byId, button, el, keyed, setBar, setFacts, setPill, setText } from "./dom.js";
import { bytes, count, duration, gb, large, ms, whole } from "./format.js";
import { lit } from "./lit.js";
import { nameOf } from "./machines.js";
import { store } from "./store.js";
import { showWhy } from "./why.js";

export function standing(model) {
  if (model.state === "failed") return ["bad", "Failed"];
  if (model.state === "draining") return ["busy", "Draining"];
  if (model.state === "drained") return ["idle", "Drained"];
  if (model.status === "warm") return ["good", "Ready"];
  if (model.status === "loading") return ["busy", model.state === "resolving" ? "Fetching" : "Loading"];
  return ["idle", model.state === "waiting" ? "Waiting" : "Cold"];
}

const RANK = { warm: 0, loading: 1 };
const inOrder = () => store.all("model/").sort((a, b) => (RANK[a.status] ?? 2) - (RANK[b.status] ?? 2));

function progressParts() {
  return el("div", { class: "progress", hidden: true },
    el("div", { class: "phase" }, el("span"), el("span", { class: "num" })),
    el("div", { class: "bar", role: "progressbar", "aria-label": "Loading", "aria-valuemin": 0, "aria-valuemax": 100 }, el("span")));
}

const SPEED_OVER_S = 20;
const fetched = new Map(); // model -> [{at, done}] of the last seconds of its download

/** Bytes per second of a download, from what it had a moment ago; null while that says nothing yet. */
function speedOf(model, share) {
  if (model.state !== "resolving" || !model.size_bytes || model.phase !== "downloading") { fetched.delete(model.name); return null; }
  const now = performance.now() / 1000;
  const done = share * model.size_bytes;
  const seen = (fetched.get(model.name) ?? []).filter((one) => now - one.at < SPEED_OVER_S && one.done <= done);
  if (!seen.length || seen.at(-1).done < done) seen.push({ at: now, done });
  fetched.set(model.name, seen);
  return now - seen[0].at > 1 ? (done - seen[0].done) / (now - seen[0].at) : null;
}

function progressWords(model, share) {
  if (share == null) return "";
  const parts = [`${Math.round(share * 100)} %`];
  if (model.state === "resolving" && model.size_bytes) parts.push(`of ${bytes(model.size_bytes)}`);
  const speed = model.bytes_per_s ?? speedOf(model, share);
  if (speed > 0 && model.size_bytes) parts.push(`${bytes(speed)}/s`, `${duration((1 - share) * model.size_bytes / speed)} left`);
  return parts.join(" · ");
}

function renderProgress(box, model) {
  box.hidden = model.status !== "loading";
  if (box.hidden) return;
  const share = Number.isFinite(model.progress) ? model.progress : null;
  const phase = model.phase || "starting";
  setText(box.querySelector(".phase").firstElementChild, phase[0].toUpperCase() + phase.slice(1));
  setText(box.querySelector(".phase").lastElementChild, progressWords(model, share));
  setBar(box.querySelector(".bar"), share);
}

function head(tag, cls) {
  return el("div", { class: cls }, el(tag, { class: "model-name" }), el("span", { class: "pill" }));
}

function renderHead(box, model) {
  setText(box.querySelector(".model-name"), model.name);
  setPill(box.querySelector(".pill"), ...standing(model));
}

function renderReason(node, model) {
  renderLine(node, model.reason);
  node.dataset.tone = model.state === "failed" ? "bad" : "calm";
}

function renderLine(node, text) {
  node.hidden = !text;
  setText(node, text);
}

function createRow(name) {
  const show = button("Show where", () => lit.set(lit.model === name ? "" : name), { class: "button small quiet", "aria-pressed": "false" });
  return el("li", { class: "serving-row" }, head("span", "serving-line"),
    el("div", { class: "serving-line" }, el("span", { class: "muted small-text line" }), show), progressParts(), el("p", { class: "reason" }));
}

function renderRow(row, model) {
  renderHead(row, model);
  const facts = [model.title, model.size_bytes ? bytes(model.size_bytes) : "", model.context ? `${whole(model.context)} context` : "", hostNames(model)];
  setText(row.querySelector(".line"), facts.filter(Boolean).join(" · "));
  const show = row.querySelector("button");
  show.hidden = !model.node_count;
  show.setAttribute("aria-pressed", lit.model === model.name);
  show.setAttribute("aria-label", `Show where ${model.name} is served`);
  renderProgress(row.querySelector(".progress"), model);
  renderReason(row.querySelector(".reason"), model);
}

function hostNames(model) {
  const names = (model.nodes ?? []).map(nameOf);
  return names.length > 3 ? `on ${count(names.length, "machine")}` : names.length ? `on ${names.join(", ")}` : "";
}

function createCard(name) {
  const why = el("details", { class: "why" }, el("summary", {}, "Why is it so?"), el("div", { class: "why-body", "aria-live": "polite" }));
  why.addEventListener("toggle", () => { if (why.open) showWhy(why.lastElementChild, name); });
  return el("article", { class: "card model-card" }, head("h2", "card-head"),
    el("p", { class: "muted line" }), progressParts(), el("p", { class: "reason" }), el("p", { class: "callout needed" }),
    el("div", { class: "tags" }), el("dl", { class: "facts" }), el("ul", { class: "plain hosts", "aria-label": "Machines that serve it" }), why,
    el("div", { class: "row card-actions" }), el("p", { class: "callout outcome", role: "status", hidden: true }));
}

function needOf(model) {
  if (model.status !== "cold") return "";
  if (model.needed) return model.needed;
  return model.need_bytes && model.state === "waiting" ? `It needs ${gb(model.need_bytes / 1e9)} of free memory.` : "";
}

function draftOf(model) {
  if (!model.draft || !Number.isFinite(model.draft_acceptance)) return model.draft;
  return `${model.draft}: ${Math.round(100 * model.draft_acceptance)} % of ${whole(model.draft_tokens)} guesses right`;
}

function factsOf(model) {
  return [
    ["Size", model.size_bytes ? bytes(model.size_bytes) : ""], ["Memory needed", model.need_bytes ? bytes(model.need_bytes) : ""],
    ["Parameters", large(model.parameters)], ["Architecture", [model.architecture, model.quantisation].filter(Boolean).join(", ")],
    ["Layers", model.layers || ""], ["Context", model.context ? count(model.context, "token") : ""],
    ["Slots", model.slots ? `${model.in_flight ?? 0} of ${model.slots} busy` : ""],
    ["Requests", `${whole(model.requests ?? 0)} (${(model.requests_per_s ?? 0).toFixed(1)}/s)`],
    ["Tokens", `${whole(model.tokens ?? 0)} (${(model.tokens_per_s ?? 0).toFixed(1)}/s)`],
    ["First token", Number.isFinite(model.ttfb_p50_ms) ? ms(model.ttfb_p50_ms) : ""], ["Engine starts", model.starts ? whole(model.starts) : ""],
    ["Draft model", draftOf(model)], ["On disk of", (model.on_disk ?? []).map(nameOf).join(", ")],
    ["Asked for by", (model.wanted_by ?? []).map(nameOf).join(", ")], ["Dropped", model.dropped ? "Yes: load it to serve it again" : ""],
  ];
}

function renderHosts(list, model) {
  const hosts = new Map((model.hosts ?? []).map((host) => [host.node_id, host]));
  keyed(list, [...hosts.keys()], () => el("li", {}, el("b"), el("span", { class: "muted num" })), (item, id) => {
    const host = hosts.get(id);
    setText(item.firstElementChild, nameOf(id));
    const facts = [host.state, host.slots ? `${host.in_flight ?? 0} of ${host.slots} slots` : "", host.tokens_per_s ? `${host.tokens_per_s.toFixed(1)} tok/s` : "",
      Number.isFinite(host.ttfb_p50_ms) ? `first token ${ms(host.ttfb_p50_ms)}` : ""];
    setText(item.lastElementChild, facts.filter(Boolean).join(" · "));
  });
  list.hidden = !hosts.size;
}

function actionsOf(model) {
  const mine = (model.nodes ?? []).includes(store.get("node").node_id);
  const here = ["warm", "loading"].includes(model.status);
  return [here ? ["drop", "Stop serving", "danger"] : ["load", "Serve it", "primary"], mine || model.state === "failed" ? ["restart", "Restart engine", ""] : null].filter(Boolean);
}

function renderActions(card, model) {
  const found = new Map(isOperator() ? actionsOf(model).map((one) => [one[0], one]) : []);
  keyed(card.querySelector(".card-actions"), [...found.keys()], (action) => {
    const [, label, kind] = found.get(action);
    return button(label, () => act(action, card.dataset.key, "", (told) => showOutcome(card.querySelector(".outcome"), told)), { class: `button small ${kind}` });
  }, () => {});
  card.querySelector(".card-actions").hidden = !found.size;
}

function renderCard(card, model) {
  renderHead(card, model);
  renderLine(card.querySelector(".line"), model.title);
  renderProgress(card.querySelector(".progress"), model);
  renderReason(card.querySelector(".reason"), model);
  renderLine(card.querySelector(".needed"), needOf(model));
  const able = model.capabilities ?? [];
  keyed(card.querySelector(".tags"), able, (name) => el("span", { class: "tag" }, name), () => {});
  card.querySelector(".tags").hidden = !able.length;
  setFacts(card.querySelector(".facts"), factsOf(model));
  renderHosts(card.querySelector(".hosts"), model);
  renderActions(card, model);
}

function byName() { return new Map(inOrder().map((model) => [model.name, model])); }

function renderRows() {
  const models = byName();
  keyed(byId("serving"), [...models.keys()], createRow, (row, name) => renderRow(row, models.get(name)));
  byId("serving-empty").hidden = models.size > 0;
  byId("try-chat").hidden = store.warmModels().length === 0;
  byId("use-code").hidden = models.size === 0;
  byId("serve-one").hidden = models.size > 0;
}

function renderCards() {
  const models = byName();
  keyed(byId("model-list"), [...models.keys()], createCard, (card, name) => renderCard(card, models.get(name)));
  byId("models-empty").hidden = models.size > 0;
  const of = (status) => [...models.values()].filter((model) => model.status === status).length;
  const words = [["warm", "ready to answer"], ["loading", "loading"], ["cold", "cold"]].filter(([status]) => of(status)).map(([status, word]) => `${of(status)} ${word}`);
  setText(byId("models-summary"), words.length ? `${words.join(", ")}.` : "");
}

async function serve(event) {
  event.preventDefault();
  const name = byId("serve-name").value.trim();
  if (!name) return;
  const send = byId("serve-send");
  send.disabled = true;
  showOutcome(byId("serve-outcome"), { outcome: "asked", text: `Looking for ${name}.` });
  const outcome = await perform("load", name);
  send.disabled = false;
  showOutcome(byId("serve-outcome"), outcome);
  if (outcome.ok) byId("serve-name").value = "";
}

/** What can be named: fetched when it is looked for, since disk and catalogue seldom change. */
async function renderServable() {
  let found = [];
  try {
    const response = await fetch("/api/servable");
    if (response.ok) found = (await response.json()).models;
  } catch { /* the connection's own pill says so */ }
  const models = new Map(found.map((model) => [model.name, model]));
  keyed(byId("known-models"), [...models.keys()], (name) => el("option", { value: name }), () => {});
  keyed(byId("servable-list"), [...models.keys()], (name) => el("li", { class: "pending-row" }, el("span", {}, el("b"), el("span", { class: "muted small-text" })),
    button("Choose", () => { byId("serve-name").value = name; byId("serve-name").focus(); }, { class: "button small", "aria-label": `Choose ${name}` })),
  (item, name) => {
    const { size_bytes: size, on_disk: here, fits, verdict } = models.get(name);
    setText(item.firstElementChild.firstElementChild, name);
    setText(item.firstElementChild.lastElementChild, ` ${[here ? "on this disk" : "to be downloaded", bytes(size), fits ? "fits here" : `does not fit here (${verdict})`].join(" · ")}`);
  });
}

export function startModels() {
  const rows = store.watch(["model/", "peer/", "node"], renderRows, "mesh");
  store.watch(["model/", "peer/", "node"], renderCards, "models");
  lit.addEventListener("change", rows);
  byId("serve").hidden = !isOperator();
  byId("serve").addEventListener("submit", serve);
  byId("servable").addEventListener("toggle", () => { if (byId("servable").open) renderServable(); });
  byId("serve-name").addEventListener("focus", renderServable, { once: true });
}
