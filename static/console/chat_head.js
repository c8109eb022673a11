// Above and beside the messages: which model, who answers it, and how a conversation leaves as a file.
import { showAttach } from "./attachments.js";
import * as kept from "./conversations.js";
import { byId, el, keyed, setText } from "./dom.js";
import { lit } from "./lit.js";
import { GONE, machines, standing } from "./machines.js";
import { store } from "./store.js";

const MINI_MAX = 16;

export function chosenModel() {
  const names = store.warmModels().map((model) => model.name);
  const chosen = byId("model").value;
  return names.includes(chosen) ? chosen : names[0] ?? store.all("model/")[0]?.name ?? "";
}

export function renderPicker() {
  const models = store.warmModels();
  const names = models.map((model) => model.name);
  const select = byId("model");
  byId("model-picker").hidden = names.length <= 1;
  byId("model-name").hidden = names.length !== 1;
  setText(byId("model-name"), names[0] ?? "");
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (names.includes(before)) select.value = before;
  }
  showAttach(models.find((model) => model.name === chosenModel())?.capabilities?.includes("vision") ?? false);
  if (names.length <= 1 && lit.model && !names.includes(lit.model)) lit.set("");
  renderMini();
}

/** The machines, small, beside the conversations: those that answer the chosen model stand out. */
function renderMini() {
  const model = chosenModel();
  const here = machines().filter((machine) => !GONE.has(machine.state) && machine.state !== "pending");
  const serves = (machine) => machine.models.some((one) => one.name === model);
  const shown = new Map([...here.filter(serves), ...here.filter((machine) => !serves(machine))].slice(0, MINI_MAX).map((machine) => [machine.id, machine]));
  keyed(byId("mini-mesh"), [...shown.keys()], () => el("li", {}, el("span", { class: "sign", "aria-hidden": "true" }), el("span", { class: "mini-name" }), el("span", { class: "mini-tag" })), (item, id) => {
    const machine = shown.get(id);
    const [tone, sign] = standing(machine);
    item.dataset.tone = tone;
    item.classList.toggle("lit", serves(machine));
    setText(item.children[0], sign);
    setText(item.children[1], machine.name);
    setText(item.children[2], serves(machine) ? "answers" : "");
  });
  const hosts = here.filter(serves).map((machine) => machine.name);
  setText(byId("model-where"), hosts.length ? `answered by ${hosts.length > 3 ? `${hosts.length} machines` : hosts.join(", ")}` : "");
}

function asMarkdown(conversation) {
  const parts = [`# ${kept.titleOf(conversation)}`];
  if (conversation.settings?.system) parts.push(`> System: ${conversation.settings.system}`);
  for (const message of conversation.messages) {
    const who = message.role === "user" ? "You" : [message.model || "Model", message.node && `on ${message.node}`].filter(Boolean).join(" ");
    parts.push(`## ${who}`, message.content || (message.error ? `*${message.error}*` : ""));
  }
  return `${parts.join("\n\n")}\n`;
}

/** Hand the conversation to the browser's downloads, as Markdown or as the JSON that is kept. */
export function exportAs(conversation, form) {
  const text = form === "json" ? JSON.stringify(conversation, null, 2) : asMarkdown(conversation);
  const address = URL.createObjectURL(new Blob([text], { type: form === "json" ? "application/json" : "text/markdown" }));
  const name = kept.titleOf(conversation).replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "chat";
  el("a", { href: address, download: `${name}.${form === "json" ? "json" : "md"}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export function startHead() {
  store.watch(["model/", "peer/", "node"], renderPicker);
  byId("model").addEventListener("change", () => {
    lit.set(chosenModel());
    renderPicker();
  });
}
