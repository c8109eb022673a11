// Elements by text only: everything that comes from the node goes through here and stays text.

export const byId = (id) => document.getElementById(id);

/** Return a new element. `attributes` are set as attributes, `children` are nodes or plain text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return a new SVG element; as `el`, for drawings. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children.filter((child) => child != null));
  return node;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function button(text, onClick, attributes = {}) {
  const made = el("button", { class: "button small", type: "button", ...attributes }, text);
  made.addEventListener("click", onClick);
  return made;
}

/** Show `facts`, pairs of name and text, in a <dl>; pairs with no text are left out. */
export function setFacts(list, facts) {
  const values = new Map(facts.filter(([, text]) => text != null && text !== ""));
  keyed(list, [...values.keys()],
    (name) => el("div", {}, el("dt", {}, name), el("dd")),
    (item, name) => setText(item.lastElementChild, values.get(name)));
}

/** Set text only when it changed, so that selections and screen readers are left in peace. */
export function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** `sign` replaces the tone's own one. */
export function setPill(node, tone, text, sign = "") {
  if (node.dataset.tone !== tone) node.dataset.tone = tone;
  if (sign) setAttribute(node, "data-sign", sign);
  else node.removeAttribute("data-sign");
  setText(node, text);
}

/** Fill a bar; `share` is 0 to 1, or null for "at work, no measure". */
export function setBar(bar, share) {
  bar.classList.toggle("open", share == null);
  const percent = share == null ? 0 : Math.round(Math.min(1, Math.max(0, share)) * 100);
  bar.firstElementChild.style.setProperty("--share", `${percent}%`);
  if (share == null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", percent);
}

/** Keep the children of `parent` as one node per key, in order; nodes of known keys are reused. */
export function keyed(parent, keys, create, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  keys.forEach((key, index) => {
    let node = known.get(key);
    if (!node) {
      node = create(key);
      node.dataset.key = key;
    }
    known.delete(key);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    update(node, key);
  });
  for (const node of known.values()) node.remove();
}

let toastTimer = 0;
export function toast(text) {
  byId("toasts").replaceChildren(el("div", { class: "toast" }, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => byId("toasts").replaceChildren(), 6000);
}

export async function copyText(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
  }
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = done ? "Copied" : "Select and copy";
  setTimeout(() => { button.textContent = before; }, 1600);
}

// The clipboard API needs https or localhost; a console reached by a machine's name has neither.
function copyBySelection(text) {
  const area = el("textarea", { class: "visually-hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
