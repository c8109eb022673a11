// One page, several views: the address's fragment says which.
import { byId } from "./dom.js";
import { store } from "./store.js";

const views = () => [...document.querySelectorAll("[data-view]")];

function show(moveFocus) {
  const names = views().map((view) => view.dataset.view);
  const asked = location.hash.slice(1);
  if (asked === "main") { byId("main").focus(); return; }
  const name = names.includes(asked) ? asked : "mesh";
  for (const view of views()) view.hidden = view.dataset.view !== name;
  for (const link of document.querySelectorAll("[data-view-link]")) {
    if (link.dataset.viewLink === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  store.show(name);
  dispatchEvent(new CustomEvent("viewshown", { detail: name }));
  const heading = document.querySelector(`[data-view="${name}"] h1`);
  document.title = `${name === "chat" ? "Chat" : heading.textContent} · mesh-llm`;
  if (moveFocus) {
    if (name !== "chat") scrollTo(0, 0);
    byId(name === "chat" ? "prompt" : "main").focus({ preventScroll: true });
  }
}

/** A menu closes when something else is pressed, by Escape, and once something of it was chosen. */
function closeMenus() {
  const open = () => [...document.querySelectorAll("details.menu[open]")];
  addEventListener("pointerdown", (event) => { for (const menu of open()) if (!menu.contains(event.target)) menu.open = false; });
  addEventListener("click", (event) => { if (event.target.closest(".menu-list a, .menu-list button")) for (const menu of open()) menu.open = false; });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of open()) { event.stopPropagation(); menu.open = false; menu.firstElementChild.focus(); }
  }, { capture: true });
}

export function startNav() {
  closeMenus();
  addEventListener("hashchange", () => show(true));
  show(false);
}
