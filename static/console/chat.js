// The chat view: conversations, the composer, one answer at a time.
import { ask as confirm } from "./actions.js";
import { ask } from "./answer.js";
import { post } from "./api.js";
import { startAttachments, takeAttached } from "./attachments.js";
import { chosenModel, exportAs, startHead } from "./chat_head.js";
import { requestOf, showSettings, startSettings, systemOf } from "./chat_settings.js";
import * as kept from "./conversations.js";
import { button, byId, el, keyed, setText, toast } from "./dom.js";
import { AnswerView, userMessage } from "./messages.js";
import { live } from "./socket.js";
import { store } from "./store.js";

const IDEAS = ["What is a mesh?", "What can you help me with?", "How do I use the API?"];
let current = kept.list()[0] ?? kept.create();
let running = null;

const scroller = () => byId("messages");
const nearEnd = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 80;
const toEnd = () => { scroller().scrollTop = scroller().scrollHeight; };

function nodeName(id) {
  const me = store.get("node");
  if (!id || id === me.node_id) return id ? `${me.name} (this node)` : "";
  return store.get(`peer/${id}`).name || id.slice(0, 12);
}

function renderList() {
  const items = new Map(kept.list().map((item) => [item.id, item]));
  keyed(byId("conversations"), [...items.keys()], (id) => {
    const button = el("button", { type: "button" });
    button.addEventListener("click", () => open(kept.list().find((item) => item.id === id)));
    return el("li", {}, button);
  }, (row, id) => {
    setText(row.firstElementChild, kept.titleOf(items.get(id)));
    if (items.get(id) === current) row.firstElementChild.setAttribute("aria-current", "true");
    else row.firstElementChild.removeAttribute("aria-current");
  });
  setText(byId("chat-title"), kept.titleOf(current));
}

function emptyState() {
  const ready = store.warmModels().length > 0;
  const ideas = IDEAS.map((text) => {
    const button = el("button", { class: "button small", type: "button" }, text);
    button.addEventListener("click", () => { byId("prompt").value = text; send(); });
    return button;
  });
  return el("div", { class: "chat-empty" },
    el("h2", {}, ready ? "Ask the mesh something" : "The model is not ready yet"),
    el("p", {}, ready ? "Answers come from your own machines. Nothing leaves the mesh." : "You can write already; it answers as soon as it has loaded."),
    ready ? el("div", { class: "ideas" }, ...ideas) : null);
}

function showPane(on) {
  byId("conversations-pane").classList.toggle("open", on);
  byId("conversations-toggle").setAttribute("aria-expanded", on);
}

async function open(conversation) {
  stop();
  current = conversation;
  showPane(false);
  showSettings(current);
  renderList();
  await renderMessages();
}

async function renderMessages() {
  const shown = current;
  const views = [];
  const nodes = current.messages.map((message, index) => {
    if (message.role === "user") return userMessage(message, { edit });
    const view = new AnswerView(message, { retry });
    if (message.reasoning) view.addReasoning(message.reasoning);
    view.plain(message.content);
    view.finish({ last: index === shown.messages.length - 1 });
    views.push(view);
    return view.node;
  });
  scroller().replaceChildren(...(nodes.length ? nodes : [emptyState()]));
  toEnd();
  await renderKept(views);
  if (shown === current) toEnd();
}

async function renderKept(views) {
  if (!views.length) return;
  try {
    const response = await post("/api/render", { texts: views.map((view) => view.message.content) });
    if (!response.ok) return;
    const { html } = await response.json();
    views.forEach((view, index) => { view.prose.replaceChildren(); view.html({ first: 0, blocks: [html[index]] }); });
  } catch { /* the plain text stays */ }
}

async function send() {
  const text = byId("prompt").value.trim();
  if (!text || running) return;
  const images = takeAttached();
  byId("prompt").value = "";
  grow();
  current.messages.push(images.length ? { role: "user", content: text, images } : { role: "user", content: text });
  kept.touch(current);
  if (current.messages.length === 1) scroller().replaceChildren();
  for (const retry of scroller().querySelectorAll(".retry")) retry.remove();
  scroller().append(userMessage(current.messages.at(-1), { edit }));
  await answer();
}

async function retry() {
  if (running) return;
  if (current.messages.at(-1)?.role === "assistant") {
    current.messages.pop();
    scroller().lastElementChild.remove();
  }
  await answer();
}

/** Say it otherwise: what came after it goes, and it is asked anew. */
function edit(message, node) {
  if (running) return;
  const field = el("textarea", { class: "edit", "aria-label": "Your message", rows: Math.min(12, message.content.split("\n").length + 1) });
  field.value = message.content;
  const close = () => node.replaceWith(userMessage(message, { edit }));
  const keep = async () => {
    const text = field.value.trim();
    if (!text) return;
    message.content = text;
    current.messages.length = current.messages.indexOf(message) + 1;
    while (node.nextElementSibling) node.nextElementSibling.remove();
    close();
    await answer();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); keep(); }
  });
  const row = el("div", { class: "row end" }, button("Cancel", close), button("Ask again", keep, { class: "button small primary" }));
  node.replaceChildren(field, row);
  field.focus();
}

const asSent = ({ role, content, images }) => (images?.length
  ? { role, content: [{ type: "text", text: content }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))] }
  : { role, content });

async function answer() {
  const conversation = current;
  const model = chosenModel();
  const message = { role: "assistant", content: "", reasoning: "", model };
  const view = new AnswerView(message, { retry });
  const messages = [...systemOf(conversation), ...conversation.messages.filter((item) => !item.error || item.content).map(asSent)];
  conversation.messages.push(message);
  scroller().append(view.node);
  view.streaming();
  toEnd();
  renderList();
  const controller = new AbortController();
  running = { controller, message };
  showRunning(true);
  const began = Date.now();
  message.error = await ask({ ...requestOf(conversation), model, messages }, controller.signal, callbacks(message, view, began));
  if (controller.signal.aborted) message.stopped = true;
  // What came after the last rendering is known as text only.
  if (message.content && (message.stopped || message.error)) await renderKept([view]);
  running = null;
  showRunning(false);
  const follow = nearEnd();
  view.finish({ last: true });
  if (follow && conversation === current) toEnd();
  if (!kept.save()) toast("This browser keeps no conversations: they are gone when the tab closes.");
  renderList();
}

function callbacks(message, view, began) {
  const following = (change) => {
    const follow = nearEnd();
    change();
    if (follow) toEnd();
  };
  return {
    reasoning: ({ text }) => following(() => { message.reasoning += text; view.addReasoning(text); }),
    text: ({ text }) => {
      if (message.reasoning && !message.thought_s) message.thought_s = Math.max(1, (Date.now() - began) / 1000);
      message.content += text;
    },
    html: (part) => following(() => view.html(part)),
    done: ({ tokens_per_s: speed, node, usage, finish_reason: finish }) => {
      message.tokens_per_s = speed;
      message.tokens = usage?.completion_tokens;
      message.node = nodeName(node);
      message.cut = finish === "length";
    },
  };
}

function stop() { running?.controller.abort(); }

function showRunning(on) {
  byId("stop").hidden = !on;
  byId("send").hidden = on;
  if (on) byId("stop").focus({ preventScroll: true });
  else if (!byId("view-chat").hidden) byId("prompt").focus({ preventScroll: true });
}

function grow() {
  const area = byId("prompt");
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function renderEmpty() { if (!current.messages.length) scroller().replaceChildren(emptyState()); }

function renderNote() {
  const lost = live.phase === "stale" || live.phase === "reconnecting";
  setText(byId("composer-note"), lost ? "The connection to the node is lost. It is tried again; what you write stays here."
    : "Enter sends, Shift+Enter makes a new line.");
}

async function rename() {
  const heading = byId("chat-title");
  const field = el("input", { "aria-label": "Name of this chat", maxlength: "80" });
  field.value = kept.titleOf(current);
  heading.replaceChildren(field);
  field.select();
  const close = (keep) => {
    if (!field.isConnected) return;
    if (keep && field.value.trim()) current.title = field.value.trim();
    heading.textContent = "";
    kept.save();
    renderList();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") close(true);
    if (event.key === "Escape") close(false);
  });
  field.addEventListener("blur", () => close(true));
}

async function removeCurrent() {
  if (current.messages.length && !(await confirm("Delete this chat?", "It is kept nowhere else.", "Delete"))) return;
  stop();
  kept.remove(current);
  await open(kept.list()[0] ?? kept.create());
}

export function startChat() {
  byId("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  byId("prompt").addEventListener("input", grow);
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  byId("stop").addEventListener("click", stop);
  addEventListener("keydown", (event) => { if (event.key === "Escape" && running && !byId("confirm").open) stop(); });
  byId("chat-new").addEventListener("click", () => { open(kept.create()); byId("prompt").focus(); });
  byId("chat-rename").addEventListener("click", rename);
  byId("chat-delete").addEventListener("click", removeCurrent);
  // On a phone the list lies over the messages: it goes by its button, by Escape and by a touch beside it.
  const paneOpen = () => byId("conversations-pane").classList.contains("open");
  byId("conversations-toggle").addEventListener("click", () => showPane(!paneOpen()));
  addEventListener("pointerdown", (event) => {
    if (paneOpen() && !event.target.closest("#conversations-pane, #conversations-toggle")) showPane(false);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && paneOpen()) { showPane(false); byId("conversations-toggle").focus(); }
  });
  for (const form of ["md", "json"]) byId(`export-${form}`).addEventListener("click", () => exportAs(current, form));
  startHead();
  startSettings();
  startAttachments();
  store.watch(["model/"], renderEmpty, "chat");
  live.addEventListener("phase", renderNote);
  showSettings(current);
  renderList();
  renderMessages();
}
