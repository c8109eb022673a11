// The requests: charts over minutes to a day, and the last ones with what became of each.
import { byId, el, keyed, setAttribute, setPill, setText } from "./dom.js";
import { Chart, LINES_MAX } from "./charts.js";
import { clock, ms, whole } from "./format.js";
import { nameOf } from "./machines.js";

const LIST_EVERY_MS = 2000;
const CHARTS_EVERY_MS = 10_000;
const SHOWN_MAX = 100;
const phone = matchMedia("(max-width: 860px)"); // as layout.css: fewer columns, the rest is in the row's detail
let charts = {};
let open = "";
let found = [];
let figures = null;

const OUTCOMES = {
  answered: ["good", "Answered"], refused: ["bad", "Refused"], client_gone: ["idle", "Client left"],
  broken_off: ["bad", "Broke off"], stopped: ["busy", "Stopped"],
};
const failed = (request) => request.status >= 400 || ["refused", "broken_off", "stopped"].includes(request.outcome);
const standing = (request) => (request.outcome === "answered" && request.status >= 400 ? ["bad", "Error"] : OUTCOMES[request.outcome] ?? ["idle", String(request.outcome ?? "")]);
const nodeOf = (request) => request.node_name || (request.node ? nameOf(request.node) : "");
const sentencesOf = (request) => (Array.isArray(request.text) ? request.text : [request.sentence]).filter(Boolean);
const triesOf = (request) => request.tries ?? request.retries ?? [];

const here = () => !byId("view-requests").hidden && !document.hidden;

async function get(path) {
  try {
    const response = await fetch(path);
    return response.ok ? await response.json() : null;
  } catch {
    return null; // the connection's own pill says so
  }
}

async function loadList() {
  if (!here() || byId("requests-pause").checked) return;
  const answer = await get(`/api/requests?limit=${SHOWN_MAX}`);
  if (!answer) return;
  found = answer.requests;
  renderList();
}

async function loadCharts() {
  if (!here()) return;
  const answer = await get(`/api/charts?minutes=${byId("requests-span").value}`);
  if (!answer) { byId("charts").hidden = true; return; }
  byId("charts").hidden = false;
  figures = answer;
  renderCharts();
}

function byKey() {
  const lines = figures[byId("requests-by").value];
  return lines.length ? lines.slice(0, LINES_MAX) : [figures.all];
}

const title = (line) => (byId("requests-by").value === "nodes" && line.name && line.name !== "all" ? nameOf(line.name) : line.name);

/** The line whose times are shown: all together, or the chosen model's or machine's. */
function ttfbOf(all) {
  const lines = new Map([["", all], ...byKey().filter((line) => line !== all).map((line) => [line.name || "-", line])]);
  const picker = byId("ttfb-of");
  keyed(picker, [...lines.keys()], (name) => el("option", { value: name }), (option, name) => setText(option, name ? title(lines.get(name)) || "no model" : "all"));
  return lines.get(picker.value) ?? all;
}

function renderCharts() {
  const { start, step_s: step, all } = figures;
  const each = (key, scale) => byKey().map((line) => ({ name: title(line), values: line[key].map((value) => value * scale) }));
  charts.requests.draw({ start, step, lines: each("requests", 60 / step) });
  charts.tokens.draw({ start, step, lines: each("tokens", 1 / step) });
  charts.errors.draw({ start, step, lines: each("errors", 60 / step) });
  const of = ttfbOf(all);
  charts.ttfb.draw({ start, step, lines: [{ name: "half within (p50)", values: of.ttfb_p50_ms }, { name: "95 % within (p95)", values: of.ttfb_p95_ms }] });
  const hours = figures.by_the_hour_before;
  byId("charts-note").hidden = !hours;
  setText(byId("charts-note"), hours ? `Before ${clock(hours)}, when this node started, only sums by the hour are known.` : "");
}

function createRow(id) {
  const toggle = el("button", { type: "button", class: "row-name", "aria-expanded": "false" });
  const row = el("tr", {}, el("td", { class: "num" }, toggle), el("td", {}, el("span", { class: "pill" })), el("td"), el("td", { class: "wide-only" }), el("td", { class: "wide-only" }),
    el("td", { class: "num wide-only" }), el("td", { class: "num wide-only" }), el("td", { class: "num wide-only" }), el("td", { class: "num wide-only" }));
  const more = el("tr", { class: "request-more", hidden: true }, el("td"));
  const body = el("tbody", {}, row, more);
  row.addEventListener("click", () => { open = open === id ? "" : id; renderList(); });
  return body;
}

function renderRow(body, request) {
  const [row, more] = body.children;
  const [at, state, model, node, path, first, total, tokens, retries] = row.children;
  const shown = open === body.dataset.key;
  setText(at.firstElementChild, clock(request.ended ?? request.at ?? 0));
  setAttribute(at.firstElementChild, "aria-expanded", shown);
  setPill(state.firstElementChild, ...standing(request));
  setText(model, request.model || request.asked || "–");
  setText(node, nodeOf(request) || "–");
  setText(path, request.path);
  setText(first, Number.isFinite(request.ttfb_ms) ? ms(request.ttfb_ms) : "–");
  setText(total, ms(request.total_ms));
  setText(tokens, request.tokens ? whole(request.tokens) : "–");
  setText(retries, triesOf(request).length || "–");
  more.hidden = !shown;
  setAttribute(more.firstElementChild, "colspan", phone.matches ? 3 : 9);
  if (shown) renderMore(more.firstElementChild, request);
}

function renderMore(cell, request) {
  const lines = sentencesOf(request);
  for (const one of triesOf(request)) if (!lines.some((line) => line.includes(one.reason))) lines.push(`${one.name ?? nameOf(one.node)}: ${one.reason}`);
  const candidates = (request.candidates ?? []).map((one) => [one.name ?? nameOf(one.node), one.reason, one.score != null && `score ${one.score}`].filter(Boolean).join(", "));
  const facts = [nodeOf(request), `Status ${request.status || "none"}`, request.streamed ? "streamed" : "in one piece", request.prompt_tokens && `${whole(request.prompt_tokens)} tokens read`, phone.matches && Number.isFinite(request.ttfb_ms) && `first byte after ${ms(request.ttfb_ms)}`, phone.matches && request.tokens && `${whole(request.tokens)} tokens`, `request ${request.id}`].filter(Boolean).join(" · ");
  const wanted = [...lines.map((line) => ["p", line]), ...(candidates.length ? [["p", `Candidates in order: ${candidates.join("; ")}.`]] : []), ["p", facts]];
  if (cell.dataset.said === JSON.stringify(wanted)) return;
  cell.dataset.said = JSON.stringify(wanted);
  cell.replaceChildren(...wanted.map(([tag, text], index) => el(tag, { class: index === wanted.length - 1 ? "muted small-text" : "" }, text)));
}

function renderList() {
  const asked = byId("requests-filter").value.trim().toLowerCase();
  const only = byId("requests-failed").checked;
  const shown = found.filter((one) => (!only || failed(one)) && [one.model, one.asked, nodeOf(one), one.path, one.id, standing(one)[1]].join(" ").toLowerCase().includes(asked));
  // A client may use one id twice: the place among its equals makes the key.
  const keys = new Map();
  for (const one of [...shown].reverse()) {
    let key = String(one.id);
    while (keys.has(key)) key += "'";
    keys.set(key, one);
  }
  keyed(byId("request-table"), ["head", ...[...keys.keys()].reverse().map((key) => `r/${key}`)], (key) => createRow(key), (body, key) => { if (key !== "head") renderRow(body, keys.get(key.slice(2))); });
  byId("requests-empty").hidden = shown.length > 0;
  setText(byId("requests-empty"), found.length ? "No request matches." : "Nobody has asked anything yet. Try the chat, or a snippet under Use it.");
}

export function startRequests() {
  charts = {
    requests: new Chart(byId("chart-requests"), "Requests", "per minute"), tokens: new Chart(byId("chart-tokens"), "Tokens", "per second"),
    ttfb: new Chart(byId("chart-ttfb"), "Time to first token", "ms"), errors: new Chart(byId("chart-errors"), "Errors", "per minute"),
  };
  byId("request-table").querySelector("thead").dataset.key = "head";
  for (const id of ["requests-filter", "requests-failed"]) byId(id).addEventListener("input", renderList);
  byId("requests-span").addEventListener("change", loadCharts);
  for (const id of ["requests-by", "ttfb-of"]) byId(id).addEventListener("change", () => figures && renderCharts());
  byId("requests-pause").addEventListener("change", loadList);
  phone.addEventListener("change", renderList);
  const all = () => { loadList(); loadCharts(); };
  addEventListener("viewshown", ({ detail }) => { if (detail === "requests") all(); });
  document.addEventListener("visibilitychange", all);
  setInterval(loadList, LIST_EVERY_MS);
  setInterval(loadCharts, CHARTS_EVERY_MS);
}
