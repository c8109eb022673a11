// What an operator may do, each with a question before and the true outcome after.
import { post, reasonOf } from "./api.js";
import { byId, setText, toast } from "./dom.js";

const QUESTIONS = {
  drop: ["Stop serving", "It takes no more requests; open answers may finish. If it is the node's last model, the node leaves the mesh and ends."],
  restart: ["Restart the engine of", "Answers under way are cut off. It is ready again after loading."],
};

export function ask(title, text, yes) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export async function act(action, model) {
  const [verb, text] = QUESTIONS[action];
  if (!(await ask(`${verb} ${model}?`, text, verb.split(" ")[0]))) return;
  try {
    const response = await post("/api/actions", { action, model });
    toast(response.ok ? (await response.json()).text : await reasonOf(response));
  } catch {
    toast("The node did not answer. Nothing is known of the outcome; look at the timeline.");
  }
}
