// Colour theme: as the system, light or dark; remembered in this browser.
import { byId } from "./dom.js";

const ORDER = ["system", "light", "dark"];
const SIGN = { system: "◐", light: "☀", dark: "☾" };

export function startTheme() {
  const button = byId("theme");
  const show = (theme) => {
    button.firstElementChild.textContent = SIGN[theme];
    button.setAttribute("aria-label", `Colour theme: ${theme === "system" ? "as the system" : theme}`);
    button.title = button.getAttribute("aria-label");
  };
  const now = () => document.documentElement.dataset.theme ?? "system";
  show(now());
  button.addEventListener("click", () => {
    const next = ORDER[(ORDER.indexOf(now()) + 1) % ORDER.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("mesh-theme", next); } catch { /* it holds for this page only */ }
    show(next);
  });
}
