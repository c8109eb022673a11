// The models: short on the mesh view, in full on their own.
import { act } from "./actions.js";
import { isOperator } from "./api.js";
import { byId, el, keyed, setBar, setPill, setText } from "./dom.js";
import { bytes, count, large, whole } from "./format.js";
import { store } from "./store.js";

export function standing(model) {
  if (model.state === "failed") return ["bad", "Failed"];
  if (model.state === "draining") return ["busy", "Draining"];
  if (model.status === "warm") return ["good", "Ready"];
  if (model.status === "loading") return ["busy", "Loading"];
  return ["idle", model.state === "waiting" ? "Waiting" : "Not loaded"];
}

function progressParts() {
  return el("div", { class: "progress", hidden: true },
    el("div", { class: "phase" }, el("span"), el("span", { class: "num" })),
    el("div", { class: "bar", role: "progressbar", "aria-label": "Loading", "aria-valuemin": 0, "aria-valuemax": 100 }, el("span")));
}

function renderProgress(box, model) {
  box.hidden = model.status !== "loading";
  if (box.hidden) return;
  const share = Number.isFinite(model.progress) ? model.progress : null;
  setText(box.querySelector(".phase").firstElementChild, model.phase || "Starting");
  setText(box.querySelector(".phase").lastElementChild, share == null ? "" : `${Math.round(share * 100)} %`);
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
  node.hidden = !model.reason;
  setText(node, model.reason);
}

function createRow() {
  return el("li", { class: "serving-row" }, head("span", "serving-line"),
    el("div", { class: "muted small-text line" }), progressParts(), el("p", { class: "reason" }));
}

function renderRow(row, model) {
  renderHead(row, model);
  const facts = [model.title, model.size_bytes ? bytes(model.size_bytes) : "", model.context ? `${whole(model.context)} context` : ""];
  setText(row.querySelector(".line"), facts.filter(Boolean).join(" · "));
  renderProgress(row.querySelector(".progress"), model);
  renderReason(row.querySelector(".reason"), model);
}

function createCard() {
  const card = el("article", { class: "card model-card" }, head("h2", "card-head"),
    el("p", { class: "muted line" }), progressParts(), el("p", { class: "reason" }),
    el("div", { class: "tags" }), el("dl", { class: "facts" }));
  if (isOperator()) {
    const restart = el("button", { class: "button small", type: "button" }, "Restart engine");
    const drop = el("button", { class: "button small danger", type: "button" }, "Stop serving");
    restart.addEventListener("click", () => act("restart", card.dataset.key));
    drop.addEventListener("click", () => act("drop", card.dataset.key));
    card.append(el("div", { class: "row" }, restart, drop));
  }
  return card;
}

function factsOf(model) {
  return new Map([
    ["Size", model.size_bytes ? bytes(model.size_bytes) : "–"],
    ["Memory needed", model.need_bytes ? bytes(model.need_bytes) : "–"],
    ["Parameters", large(model.parameters) || "–"],
    ["Architecture", [model.architecture, model.quantisation].filter(Boolean).join(", ") || "–"],
    ["Context", model.context ? count(model.context, "token") : "–"],
    ["Slots", model.slots ? `${model.in_flight ?? 0} of ${model.slots} busy` : "–"],
    ["Requests", `${whole(model.requests ?? 0)} (${(model.requests_per_s ?? 0).toFixed(1)}/s)`],
    ["Tokens", `${whole(model.tokens ?? 0)} (${(model.tokens_per_s ?? 0).toFixed(1)}/s)`],
    ["First token", Number.isFinite(model.ttfb_p50_ms) ? `${Math.round(model.ttfb_p50_ms)} ms` : "–"],
    ["Engine starts", whole(model.starts ?? 0)],
    ["Draft model", model.draft || "None"],
    ["Machines", whole(model.node_count ?? 0)],
  ]);
}

function renderCard(card, model) {
  renderHead(card, model);
  setText(card.querySelector(".line"), model.title);
  card.querySelector(".line").hidden = !model.title;
  renderProgress(card.querySelector(".progress"), model);
  renderReason(card.querySelector(".reason"), model);
  const able = model.capabilities ?? [];
  keyed(card.querySelector(".tags"), able, (name) => el("span", { class: "tag" }, name), () => {});
  card.querySelector(".tags").hidden = !able.length;
  const facts = factsOf(model);
  keyed(card.querySelector(".facts"), [...facts.keys()],
    (name) => el("div", {}, el("dt", {}, name), el("dd")),
    (item, name) => setText(item.lastElementChild, facts.get(name)));
}

function render() {
  const models = new Map(store.all("model/").map((model) => [model.name, model]));
  const names = [...models.keys()];
  keyed(byId("serving"), names, createRow, (row, name) => renderRow(row, models.get(name)));
  keyed(byId("model-list"), names, createCard, (card, name) => renderCard(card, models.get(name)));
  byId("serving-empty").hidden = byId("models-empty").hidden = names.length > 0;
  const warm = store.warmModels().length;
  byId("try-chat").hidden = warm === 0;
  setText(byId("models-summary"), names.length ? `${warm} of ${names.length} ready to answer.` : "");
}

export function startModels() { store.watch(["model/"], render); }
