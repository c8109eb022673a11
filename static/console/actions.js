// What an operator may do, each with a question before and the true outcome after.
import { post } from "./api.js";
import { byId, setText } from "./dom.js";

/** action -> [question, what will happen, the button] */
const QUESTIONS = {
  drop: [(name) => `Stop serving ${name} everywhere?`, "Every machine that serves it takes no more requests for it; open answers may finish. A machine whose last model it is leaves the mesh and ends. To empty one machine alone, drain it.", "Stop serving"],
  drain: [(_, node) => `Drain ${node}?`, "It takes no new requests, lets open answers finish (30 seconds at most), unloads its models and takes up no others. It stays a member, and serves again once it is undrained or started again. Another machine may take its models over.", "Drain"],
  undrain: [(_, node) => `Let ${node} serve again?`, "It loads again what its own operator asked for, and takes up what the mesh needs.", "Serve again"],
  restart: [(name) => `Restart the engine of ${name}?`, "Answers under way are cut off. It is ready again after loading.", "Restart"],
  load: [(name) => `Serve ${name}?`, "It is fetched if it is not on disk, and takes memory once it is loaded.", "Serve"],
  stop: [(_, node) => `Stop ${node}?`, "It takes no more requests, lets open answers finish, tells the mesh and ends. This page goes with it.", "Stop the node"],
  forget: [(_, node) => `Forget ${node}?`, "It is taken off this node's lists; the others forget it after five minutes. It may come back by itself.", "Forget"],
  revoke: [(_, node) => `Revoke ${node}?`, "Its membership is withdrawn for good, on every machine. With a new identity and a token that holds, the machine could still be let in as a new one.", "Revoke"],
  block: [(_, node) => `Block ${node}?`, "Its membership is withdrawn for good, on every machine, and the invite tokens by which it could come in anew are taken back. Where those are not known, the mesh gets a new key and every invite token of before ends. Other members stay.", "Block"],
  approve: [(_, node) => `Let ${node} in?`, "It becomes a full member: it serves models and may invite others.", "Approve"],
  reject: [(_, node) => `Turn ${node} away?`, "It is told that it is not let in, and ends. Started again after ten minutes it may ask anew.", "Turn away"],
  revoke_token: [() => "Revoke this token?", "Nobody can join with it any more. Machines that joined by it stay.", "Revoke"],
};

/** Settles the question that is open now; a browser tells of a closed dialog late, perhaps after the next one opened. */
let settle = () => {};

export function ask(title, text, yes) {
  const dialog = byId("confirm");
  settle(false); // what was asked before and not answered with yes is a no, whatever comes of it later
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      if (!dialog.open) settle(dialog.returnValue === "yes");
    };
    settle = (answer) => {
      dialog.removeEventListener("close", closed);
      settle = () => {};
      resolve(answer);
    };
    dialog.addEventListener("close", closed);
  });
}

/** Do it after a yes; `show` is told {ok, outcome, text}: that it was asked, then what became of it. True after a yes. */
export async function act(action, target, nodeName, show) {
  const [title, text, yes] = QUESTIONS[action];
  if (!(await ask(title(target, nodeName), text, yes))) return false;
  show({ ok: true, outcome: "asked", text: "Waiting for what becomes of it." });
  show(await perform(action, target));
  return true;
}

/** outcome -> [tone, what it is in two words] */
const OUTCOMES = {
  asked: ["", "… Asked."], done: ["good", "✓ Done."], begun: ["good", "◐ Under way."], unconfirmed: ["warn", "▲ Not confirmed yet."],
  refused: ["bad", "✕ Not done."], unknown: ["warn", "? Outcome unknown."],
};

/** Show in `line` what became of an action; nothing hides it. */
export function showOutcome(line, told) {
  line.hidden = !told;
  const [tone, words] = OUTCOMES[told?.outcome] ?? OUTCOMES.unknown;
  line.className = `callout outcome ${tone}`;
  setText(line, told ? `${words} ${told.text}` : "");
}

/** Do it at once; returns {ok, outcome, text}. */
export async function perform(action, target) {
  try {
    const response = await post("/api/actions", { action, target });
    const body = await response.json();
    const ok = response.ok && body.ok !== false;
    return { ok, outcome: body.outcome ?? (ok ? "done" : "refused"), text: body.text ?? body.error?.message ?? `The node answered with status ${response.status}.` };
  } catch {
    return { ok: false, outcome: "unknown", text: "The node gave no answer that could be read. Look at what happened before you try again." };
  }
}
