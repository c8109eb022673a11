// How a conversation is asked: system prompt and sampling, kept with it; empty means as the model likes it.
import { byId } from "./dom.js";
import * as kept from "./conversations.js";

/** name in the request -> [field, smallest, largest] */
const NUMBERS = { temperature: ["set-temperature", 0, 2], top_p: ["set-top-p", 0, 1], max_tokens: ["set-max-tokens", 1, 1e6], seed: ["set-seed", 0, 2 ** 31] };
let current = null;

/** Show the settings of this conversation. */
export function showSettings(conversation) {
  current = conversation;
  byId("set-system").value = conversation.settings?.system ?? "";
  for (const [name, [field]] of Object.entries(NUMBERS)) byId(field).value = conversation.settings?.[name] ?? "";
  mark();
}

/** The part of a request that these settings are. */
export function requestOf(conversation) {
  const { system: _, ...numbers } = conversation.settings ?? {};
  return numbers;
}

export function systemOf(conversation) {
  const text = conversation.settings?.system?.trim();
  return text ? [{ role: "system", content: text }] : [];
}

function take() {
  const settings = {};
  if (byId("set-system").value.trim()) settings.system = byId("set-system").value;
  for (const [name, [field, least, most]] of Object.entries(NUMBERS)) {
    const value = byId(field).valueAsNumber;
    if (Number.isFinite(value)) settings[name] = Math.min(most, Math.max(least, value));
  }
  current.settings = settings;
  kept.save();
  mark();
}

// A conversation that is asked differently says so without being opened.
function mark() {
  const changed = Object.keys(current.settings ?? {}).length;
  byId("settings-mark").textContent = changed ? ` (${changed} set)` : "";
}

export function startSettings() {
  const panel = byId("chat-settings");
  const toggle = byId("settings-toggle");
  const open = (on) => {
    panel.hidden = !on;
    toggle.setAttribute("aria-expanded", on);
    if (on) byId("set-system").focus();
    else toggle.focus();
  };
  toggle.addEventListener("click", () => open(panel.hidden));
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); open(false); } });
  panel.addEventListener("input", take);
  byId("settings-reset").addEventListener("click", () => { current.settings = {}; kept.save(); showSettings(current); });
}
