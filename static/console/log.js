// The engine's log: asked for only while it is open, kept to a bounded number of lines.
import { byId, copyText, el, setText } from "./dom.js";
import { live } from "./socket.js";
import { store } from "./store.js";

const LINES_MAX = 1000;
let model = "";
let last = 0;

function subscribe(name) {
  model = name;
  last = 0;
  byId("log").replaceChildren();
  live.log(name);
  setText(byId("log-note"), byId("log-card").open ? name || "no engine has run yet" : "closed");
}

function choose() {
  const names = store.all("model/").map((entry) => entry.name);
  const select = byId("log-model");
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (names.includes(model)) select.value = model;
  }
  byId("log-model-field").hidden = names.length < 2;
  if (byId("log-card").open && !names.includes(model)) subscribe(first());
}

// A model that was refused has no engine and so no log: one that has, or had, comes first.
function first() {
  const entries = store.all("model/");
  return (entries.find((entry) => entry.state !== "failed") ?? entries[0])?.name ?? "";
}

function append({ detail: { model: of, first, lines } }) {
  if (of !== model) return;
  const box = byId("log");
  const fresh = lines.slice(Math.max(0, last + 1 - first));
  if (last && first > last + 1) box.append(el("div", { class: "muted" }, `… ${first - last - 1} lines left out …`));
  box.append(...fresh.map((text) => el("div", {}, text)));
  last = Math.max(last, first + lines.length - 1);
  while (box.children.length > LINES_MAX) box.firstElementChild.remove();
  if (byId("log-follow").checked) box.scrollTop = box.scrollHeight;
}

export function startLog() {
  live.addEventListener("log", append);
  store.watch(["model/"], choose);
  byId("log-card").addEventListener("toggle", () => {
    if (byId("log-card").open) { model = ""; choose(); if (!model) subscribe(""); } else subscribe("");
  });
  byId("log-model").addEventListener("change", (event) => subscribe(event.target.value));
  byId("log-copy").addEventListener("click", (event) => {
    copyText([...byId("log").children].map((line) => line.textContent).join("\n"), event.currentTarget);
  });
  byId("log").addEventListener("wheel", (event) => { if (event.deltaY < 0) byId("log-follow").checked = false; }, { passive: true });
  byId("log").addEventListener("keydown", (event) => { if (["ArrowUp", "PageUp", "Home"].includes(event.key)) byId("log-follow").checked = false; });
}
