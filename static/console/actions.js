// What an operator may do, each with a question before and the true outcome after.
import { post } from "./api.js";
import { byId, setText, toast } from "./dom.js";

/** action -> [question, what will happen, the button] */
const QUESTIONS = {
  drop: [(name) => `Stop serving ${name}?`, "Every machine that serves it takes no more requests for it; open answers may finish. A machine whose last model it is leaves the mesh.", "Stop serving"],
  restart: [(name) => `Restart the engine of ${name}?`, "Answers under way are cut off. It is ready again after loading.", "Restart"],
  load: [(name) => `Serve ${name}?`, "It is fetched if it is not on disk, and takes memory once it is loaded.", "Serve"],
  stop: [(_, node) => `Stop ${node}?`, "It takes no more requests, lets open answers finish, tells the mesh and ends. This page goes with it.", "Stop the node"],
  forget: [(_, node) => `Forget ${node}?`, "It is taken off the lists. It may come back by itself.", "Forget"],
  revoke: [(_, node) => `Revoke and block ${node}?`, "Its membership is withdrawn for good, on every machine. To come back it needs a new identity and a new token.", "Revoke"],
  approve: [(_, node) => `Let ${node} in?`, "It becomes a full member: it serves models and may invite others.", "Approve"],
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

/** Do it after a yes; returns {ok, text}, the true outcome, or null when nothing was asked of the node. */
export async function act(action, target, nodeName = "") {
  const [title, text, yes] = QUESTIONS[action];
  if (!(await ask(title(target, nodeName), text, yes))) return null;
  const told = await perform(action, target);
  toast(told.text);
  return told;
}

/** Do it at once; returns {ok, text}. */
export async function perform(action, target) {
  try {
    const response = await post("/api/actions", { action, target });
    const body = await response.json();
    return { ok: response.ok && body.ok !== false, text: body.text ?? body.error?.message ?? `The node answered with status ${response.status}.` };
  } catch {
    return { ok: false, text: "The node did not answer. Nothing is known of the outcome; look at what happened." };
  }
}
