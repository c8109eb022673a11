// "Add a machine": a fresh command, hidden until an operator asks; who waits; who has joined; which tokens hold.
import { act, showOutcome } from "./actions.js";
import { isOperator, post, reasonOf } from "./api.js";
import { byId, button, el, keyed, setText, toast } from "./dom.js";
import { ago, clock, duration } from "./format.js";
import { snippet } from "./snippets.js";
import { store } from "./store.js";

const JOINED_MAX = 8;
let known = null; // the peers when the command was shown; null before
let joined = [];

async function show() {
  const uses = byId("join-uses").value;
  const asked = { hours: Number(byId("join-hours").value), uses: uses ? Number(uses) : null, clients_only: byId("join-kind").value === "client", label: byId("join-label").value.trim() };
  byId("join-show").disabled = true;
  try {
    const response = await post("/api/tokens", asked);
    if (!response.ok) { toast(await reasonOf(response)); return; }
    present(await response.json());
    listTokens();
  } catch {
    toast("The node did not answer. Try again.");
  } finally {
    byId("join-show").disabled = false;
  }
}

function present({ command, qr, expires_s: life }) {
  const box = snippet(byId("join-kind").value === "client" ? "On a machine that only asks" : "On a machine that lends its memory");
  box.querySelector("code").textContent = command;
  const parts = [box, el("p", { class: "muted small-text" }, `Good for ${duration(life)}. It is shown this once.`)];
  if (qr) {
    const image = el("img", { class: "qr", src: qr, alt: "QR code of the command", hidden: true });
    parts.push(button("Show as QR code", (event) => {
      image.hidden = !image.hidden;
      event.currentTarget.textContent = image.hidden ? "Show as QR code" : "Hide the QR code";
    }), image);
  }
  parts.push(button("Hide the command", hide));
  byId("join").replaceChildren(...parts);
  byId("join-show").textContent = "Make another";
  known ??= new Set(store.pairs("peer/").filter(([, peer]) => alive(peer)).map(([key]) => key));
  renderJoined();
}

function hide() {
  byId("join").replaceChildren();
  byId("join-show").textContent = "Show the command";
  byId("join-show").focus();
}

const alive = (peer) => !["dead", "left"].includes(peer.state);

function renderJoined() {
  if (known) {
    for (const [key, peer] of store.pairs("peer/")) {
      if (known.has(key) || !alive(peer)) continue;
      known.add(key);
      joined = [{ id: peer.id, name: peer.name || String(peer.id).slice(0, 12), at: Date.now() / 1000 }, ...joined].slice(0, JOINED_MAX);
    }
  }
  const found = new Map(joined.map((one) => [one.id, one]));
  keyed(byId("joined"), [...found.keys()], () => el("li", { class: "callout good" }), (item, id) => {
    const { name, at } = found.get(id);
    setText(item, `✓ ${name} has joined (${ago(at)}). It is under Mesh now.`);
  });
  byId("join-wait").hidden = !known || joined.length > 0;
  byId("join-idle").hidden = Boolean(known);
}

const decide = (action, label, id, kind) => button(label, () => act(action, id, store.get(`pending/${id}`).name ?? "", (told) => {
  showOutcome(byId("pending-outcome"), told);
  renderPending();
}), { class: `button small ${kind}` });

function renderPending() {
  const waiting = new Map(store.all("pending/").map((one) => [one.id, one]));
  keyed(byId("pending"), [...waiting.keys()], (id) => el("li", { class: "pending-row" },
    el("span", {}, el("b"), el("span", { class: "muted small-text" })),
    isOperator() ? el("span", { class: "row" }, decide("approve", "Approve", id, "primary"), decide("reject", "Turn away", id, "danger")) : null),
  (item, id) => {
    const { name, software, address, since } = waiting.get(id);
    const [title, facts] = item.firstElementChild.children;
    setText(title, name || String(id).slice(0, 12));
    setText(facts, [` ${String(id).slice(0, 12)}`, address, software && `version ${software}`, since && `asked ${ago(since)}`].filter(Boolean).join(" · "));
  });
  byId("pending").hidden = !waiting.size;
  byId("pending-card").hidden = !waiting.size && byId("pending-outcome").hidden;
  for (const badge of document.querySelectorAll(".pending-badge")) {
    badge.hidden = !waiting.size;
    setText(badge, waiting.size);
  }
}

async function listTokens() {
  if (!isOperator()) return;
  try {
    const response = await fetch("/api/tokens");
    if (!response.ok) return;
    const { tokens } = await response.json();
    const good = new Map(tokens.filter((token) => !token.revoked).map((token) => [token.id, token]));
    keyed(byId("tokens"), [...good.keys()], (id) => el("li", { class: "pending-row" },
      el("span", {}, el("b"), el("span", { class: "muted small-text" })),
      button("Revoke", async () => {
        if (await act("revoke_token", id, "", (told) => showOutcome(byId("tokens-outcome"), told))) listTokens();
      }, { class: "button small danger" })),
    (item, id) => {
      const { label, uses_left: uses, clients_only: clients, expires_s: life } = good.get(id);
      const [title, facts] = item.firstElementChild.children;
      setText(title, label || id);
      setText(facts, ` ${[clients ? "clients only" : "full members", uses == null ? "any number of uses" : `${uses} uses left`, life > 1e8 ? `until ${clock(life)}` : `good for ${duration(life)}`].join(" · ")}`);
    });
    byId("tokens-card").hidden = !good.size && byId("tokens-outcome").hidden;
  } catch { /* the list stays as it was */ }
}

export function startMachine() {
  const show_ = byId("join-show");
  if (!show_) return; // this node cannot be joined: the page has no such view
  byId("join-viewer").hidden = isOperator();
  byId("join-form").hidden = !isOperator();
  byId("join-form").addEventListener("submit", (event) => { event.preventDefault(); show(); });
  store.watch(["peer/"], renderJoined, "add");
  store.watch(["pending/"], renderPending);
  addEventListener("viewshown", ({ detail }) => { if (detail === "add") listTokens(); });
  setInterval(() => { if (joined.length && !document.hidden) renderJoined(); }, 5000);
}

