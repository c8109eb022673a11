// What happened, newest first, in plain words.
import { byId, el } from "./dom.js";
import { clock } from "./format.js";
import { store } from "./store.js";

const PAGE = 12;
const MARKS = { info: ["·", ""], warning: ["▲", "Warning: "], error: ["✕", "Error: "] };
let shown = PAGE;
const lines = new WeakMap();

function line(entry) {
  if (!lines.has(entry)) {
    const [mark, word] = MARKS[entry.level] ?? MARKS.info;
    const when = new Date((entry.at ?? 0) * 1000);
    lines.set(entry, el("li", { "data-level": entry.level },
      el("span", { class: "mark", "aria-hidden": "true" }, mark),
      el("span", { class: "what" }, el("span", { class: "visually-hidden" }, word), String(entry.text ?? "")),
      el("time", { datetime: Number.isNaN(when.getTime()) ? "" : when.toISOString() }, clock(entry.at ?? 0))));
  }
  return lines.get(entry);
}

function render() {
  const newest = store.history.slice(-shown).reverse();
  const list = byId("timeline");
  const wanted = new Set(newest.map(line));
  for (const node of [...list.children]) if (!wanted.has(node)) node.remove();
  newest.forEach((entry, index) => {
    if (list.children[index] !== line(entry)) list.insertBefore(line(entry), list.children[index] ?? null);
  });
  byId("timeline-empty").hidden = newest.length > 0;
  byId("timeline-more").hidden = store.history.length <= shown;
}

export function startTimeline() {
  store.watchHistory(render);
  byId("timeline-more").addEventListener("click", () => { shown += 60; render(); });
}
