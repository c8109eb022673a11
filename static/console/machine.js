// "Add a machine": the command with the token, shown only when an operator asks.
import { isOperator, reasonOf } from "./api.js";
import { byId, toast } from "./dom.js";
import { snippet } from "./snippets.js";

function command(title, text) {
  const box = snippet(title);
  box.querySelector("code").textContent = text;
  return box;
}

async function show() {
  try {
    const response = await fetch("/api/token");
    if (!response.ok) { toast(await reasonOf(response)); return; }
    const { token } = await response.json();
    byId("join").replaceChildren(
      command("On a machine that lends its memory", `mesh-llm --join ${token}`),
      command("On a machine that only asks", `mesh-llm --client --join ${token}`));
    byId("join-show").textContent = "Hide";
  } catch {
    toast("The node did not answer. Try again.");
  }
}

export function startMachine() {
  const button = byId("join-show");
  if (!button) return; // this node cannot be joined: the page has no such view
  if (!isOperator()) {
    byId("join-viewer").hidden = false;
    button.hidden = true;
    return;
  }
  button.addEventListener("click", () => {
    if (byId("join").childElementCount) {
      byId("join").replaceChildren();
      button.textContent = "Show the command";
    } else show();
  });
}
