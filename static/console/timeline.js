// What happened, newest first, in plain words.
import { byId, el } from "./dom.js";
import { clock } from "./format.js";
import { store } from "./store.js";

const PAGE = 12;
const MARKS = { info: ["·", ""], warning: ["▲", "Warning: "], error: ["✕", "Error: "] };
let shown = PAGE;
const kept = new WeakMap();

/** The entry's line in one `place`: the same element as long as the entry lives. */
export function eventLine(entry, place) {
  const lines = kept.get(entry) ?? {};
  kept.set(entry, lines);
  lines[place] ??= line(entry);
  return lines[place];
}

function line(entry) {
  const [mark, word] = MARKS[entry.level] ?? MARKS.info;
  const when = new Date((entry.at ?? 0) * 1000);
  return el("li", { "data-level": entry.level },
    el("span", { class: "mark", "aria-hidden": "true" }, mark),
    el("span", { class: "what" }, el("span", { class: "visually-hidden" }, word), String(entry.text ?? "")),
    el("time", { datetime: Number.isNaN(when.getTime()) ? "" : when.toISOString() }, clock(entry.at ?? 0)));
}

function render() {
  const only = byId("timeline-filter").value;
  const wanted = only === "all" ? store.history : store.history.filter((entry) => (only === "model" ? entry.model : ["warning", "error"].includes(entry.level)));
  const lines = wanted.slice(-shown).reverse().map((entry) => eventLine(entry, "timeline"));
  const list = byId("timeline");
  const keep = new Set(lines);
  for (const node of [...list.children]) if (!keep.has(node)) node.remove();
  lines.forEach((node, index) => {
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
  });
  byId("timeline-empty").hidden = lines.length > 0;
  byId("timeline-more").hidden = wanted.length <= shown;
}

export function startTimeline() {
  store.watchHistory(render, "mesh");
  byId("timeline-filter").addEventListener("change", () => { shown = PAGE; render(); });
  byId("timeline-more").addEventListener("click", () => { shown += 60; render(); });
}
