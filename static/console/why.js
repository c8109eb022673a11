// Why a model is served as it is: the node's own sentences.
import { el } from "./dom.js";
import { reasonOf } from "./api.js";

export async function showWhy(box, model) {
  box.replaceChildren(el("p", { class: "muted" }, "Asking the node…"));
  try {
    const response = await fetch(`/api/why?model=${encodeURIComponent(model)}`);
    box.replaceChildren(...(response.ok ? sentences(await response.json()) : [el("p", { class: "reason" }, await reasonOf(response))]));
  } catch {
    box.replaceChildren(el("p", { class: "reason" }, "The node did not answer. Open this again to retry."));
  }
}

function sentences({ sentence, needed, term, candidates = [] }) {
  const lines = candidates.map((one) => el("li", {}, el("span", { "aria-hidden": "true" }, one.accepted ? "✓ " : "✕ "),
    el("b", {}, `${one.name || String(one.node_id).slice(0, 12)}: `), `${one.accepted ? "" : "no. "}${one.sentence ?? ""}`));
  return [
    el("p", {}, sentence || "The node gives no reason."),
    needed ? el("p", {}, needed) : null,
    lines.length ? el("ul", { class: "plain why-list" }, ...lines) : null,
    term ? el("p", { class: "muted small-text" }, `Decided in term ${term}.`) : null,
  ].filter(Boolean);
}
