// Header and notices.
import { byId, el, keyed, setPill, setText } from "./dom.js";
import { standing } from "./machines.js";
import { live } from "./socket.js";
import { store } from "./store.js";

const PHASES = {
  connecting: ["busy", "Connecting"], live: ["good", "Live"],
  reconnecting: ["busy", "Reconnecting"], stale: ["bad", "Not live: reconnecting"],
};
function renderNode() {
  const node = store.get("node");
  setText(byId("node-name"), node.name || "Unnamed node");
  byId("node-name").classList.remove("skeleton");
  const [tone, sign, word] = standing(node);
  setPill(byId("node-state"), tone, word, sign);
}

function renderNotices() {
  const notices = new Map([...store.state].filter(([key]) => key.startsWith("notice/")));
  keyed(byId("notices"), [...notices.keys()].sort(),
    () => el("p", { class: "callout" }),
    (item, key) => {
      const { level, text } = notices.get(key);
      item.className = `callout ${level === "error" ? "bad" : "warn"}`;
      setText(item, `${level === "error" ? "Error" : "Note"}: ${text}`);
    });
}

function renderPhase() {
  const [tone, word] = PHASES[live.phase];
  setPill(byId("connection"), tone, word);
  document.body.dataset.phase = live.phase;
}

export function startStatus() {
  store.watch(["node"], renderNode);
  store.watch(["notice/"], renderNotices);
  live.addEventListener("phase", renderPhase);
  renderPhase();
}
