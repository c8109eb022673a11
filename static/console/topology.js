// The drawing of the mesh: a box for each machine, lines between them; it glides to a new order.
import { el, keyed, setAttribute, setText, svg } from "./dom.js";
import { gb, ms, percent, rate } from "./format.js";
import { LANES, roleOf, standing } from "./machines.js";
import { course, layout } from "./topology_layout.js";

const GLIDE_MS = 320;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Topology {
  #box; #lines; #words; #labels; #nodes; #onSelect;
  #at = new Map(); // where each box stands on the screen now
  #plan = null;
  #glide = 0;

  constructor(box, onSelect) {
    this.#box = box;
    this.#onSelect = onSelect;
    this.#lines = svg("g");
    this.#words = svg("g", { class: "link-words" });
    this.#labels = el("div", { class: "tier-labels", "aria-hidden": "true" });
    this.#nodes = el("ul", { class: "plain nodes", "aria-label": "Machines" });
    this.#nodes.addEventListener("keydown", (event) => this.#arrows(event));
    box.append(svg("svg", { class: "links", "aria-hidden": "true" }, this.#lines, this.#words), this.#labels, this.#nodes);
  }

  /** Draw `machines`; `selected` is an id, `lit` a model whose hosts stand out. */
  draw(machines, splits, { selected, lit, mine, ghost }) {
    const width = Math.floor(this.#box.clientWidth);
    if (!width) return;
    const resized = this.#plan && this.#plan.width !== width;
    const plan = { ...layout(machines, splits, width, { ghost, selected }), width };
    this.#box.style.height = `${plan.height}px`;
    this.#box.classList.toggle("compact", !plan.large);
    const byId = new Map(machines.map((machine) => [machine.id, machine]));
    const shares = sharesOf(splits);
    keyed(this.#nodes, [...plan.places.keys()], (id) => (id === "ghost" ? ghostBox() : this.#createBox(id)), (item, id) => {
      if (id !== "ghost") renderBox(item.firstElementChild, byId.get(id), { selected, lit, mine, share: shares.get(id) });
      const { w, h } = plan.places.get(id);
      item.style.width = `${w}px`;
      item.style.height = `${h}px`;
    });
    keyed(this.#labels, plan.labels.map((label) => label.text), (text) => el("span", {}, text), (item, text) => {
      const { x, y } = plan.labels.find((label) => label.text === text);
      item.style.transform = `translate(${x}px, ${y}px)`;
    });
    this.#renderLinks(plan, byId.get(selected)?.you ? "" : selected);
    this.#plan = plan;
    this.#move(resized);
  }

  focus(id) { [...this.#nodes.children].find((item) => item.dataset.key === id)?.firstElementChild.focus(); }

  #createBox(id) {
    const node = el("button", { class: "node", type: "button" },
      el("span", { class: "node-top" }, el("span", { class: "sign", "aria-hidden": "true" }), el("span", { class: "node-title" }), el("span", { class: "you-tag" })),
      el("span", { class: "node-role" }), el("span", { class: "node-models" }),
      el("span", { class: "bar mini" }, el("span")), el("span", { class: "node-memory num" }, el("span"), el("span")),
      el("span", { class: "node-foot num" }, el("span"), el("span")), el("span", { class: "lit-tag" }));
    node.addEventListener("click", () => this.#onSelect(id, node));
    return el("li", { class: "place new" }, node);
  }

  #renderLinks(plan, selected) {
    const shown = plan.links;
    keyed(this.#lines, shown.map((link) => link.key), () => svg("path"), (path, key) => {
      const link = shown.find((one) => one.key === key);
      setAttribute(path, "class", `link ${link.kind} ${link.via === "quic" ? "quic" : "lane"}${[link.from, link.to].includes(selected) ? " chosen" : ""}`);
      path.style.strokeWidth = link.kind === "split" ? `${2 + 7 * (link.share || 0)}px` : "";
    });
    const worded = shown.filter((link) => link.words && link.kind !== "gone");
    keyed(this.#words, worded.map((link) => link.key), () => svg("text", { "text-anchor": "middle" }), (text, key) => {
      setText(text, wordsOf(worded.find((one) => one.key === key)));
    });
  }

  #move(atOnce) {
    const { places } = this.#plan;
    for (const id of [...this.#at.keys()]) if (!places.has(id)) this.#at.delete(id);
    const from = new Map([...places].map(([id, place]) => [id, this.#at.get(id) ?? place]));
    const moved = [...places].some(([id, place]) => from.get(id).x !== place.x || from.get(id).y !== place.y);
    cancelAnimationFrame(this.#glide);
    if (!moved || atOnce || still.matches) { this.#put(places); return; }
    const began = performance.now();
    const step = (now) => {
      const t = Math.min(1, Math.max(0, now - began) / GLIDE_MS);
      const eased = 1 - (1 - t) ** 3;
      this.#put(new Map([...places].map(([id, place]) => {
        const start = from.get(id);
        return [id, { ...place, x: start.x + (place.x - start.x) * eased, y: start.y + (place.y - start.y) * eased }];
      })));
      if (t < 1) this.#glide = requestAnimationFrame(step);
    };
    this.#glide = requestAnimationFrame(step);
    this.#put(from);
  }

  #put(places) {
    this.#at = places;
    for (const item of this.#nodes.children) {
      const { x, y } = places.get(item.dataset.key) ?? { x: 0, y: 0 };
      const transform = `translate(${x}px, ${y}px)`;
      if (item.style.transform !== transform) item.style.transform = transform;
    }
    const words = new Map([...this.#words.children].map((text) => [text.dataset.key, text]));
    this.#plan.links.forEach((link, index) => {
      const line = course(places.get(link.from), places.get(link.to));
      setAttribute(this.#lines.children[index], "d", line.d);
      const text = words.get(link.key);
      if (!text) return;
      setAttribute(text, "x", line.x);
      setAttribute(text, "y", line.y);
      text.toggleAttribute("hidden", line.room < 60);
    });
  }

  // The arrow keys go to the next box in that direction; Tab goes through all of them in order.
  #arrows(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const here = this.#plan?.places.get(event.target.closest("li")?.dataset.key);
    if (!way || !here) return;
    event.preventDefault();
    const level = way[1] === 0;
    const along = (place) => (place.x - here.x) * way[0] + (place.y - here.y) * way[1];
    const aside = (place) => Math.abs(level ? place.y - here.y : place.x - here.x);
    const far = (place) => (level && aside(place) > here.h ? Infinity : along(place) * 10 + aside(place));
    const next = [...this.#plan.places].filter(([, place]) => along(place) > 4 && far(place) < Infinity)
      .sort(([, a], [, b]) => far(a) - far(b))[0];
    if (next) this.focus(next[0]);
  }
}

const ghostBox = () => el("li", { class: "place" }, el("a", { class: "node ghost", href: "#add" }, el("span", { "aria-hidden": "true" }, "+"), "Add a machine"));

function sharesOf(splits) {
  const found = new Map();
  for (const split of splits) {
    found.set(split.host, split.hostShare);
    for (const part of split.parts) found.set(part.id, part.share);
  }
  return found;
}

function wordsOf(link) {
  const parts = [link.kind === "split" ? percent(link.share) : "", Number.isFinite(link.rtt) ? ms(link.rtt) : "", LANES[link.via] ?? ""];
  return parts.filter(Boolean).join(" · ");
}

function renderBox(node, machine, { selected, lit, mine, share }) {
  const [tone, sign, word] = standing(machine);
  const serves = Boolean(lit) && machine.models.some((model) => model.name === lit);
  node.dataset.tone = tone;
  node.dataset.state = machine.state ?? "";
  setAttribute(node, "aria-pressed", machine.id === selected);
  node.classList.toggle("lit", serves);
  const [top, role, models, bar, memory, foot, tag] = node.children;
  setText(top.children[0], sign);
  setText(top.children[1], machine.name);
  setText(top.children[2], machine.you ? "you" : "");
  setText(role, `${word === roleOf(machine) ? word : `${word} · ${roleOf(machine)}`}${Number.isFinite(share) ? ` · ${percent(share)} of a split` : ""}`);
  setText(models, machine.models.map((model) => model.name).join(", "));
  bar.hidden = !machine.offeredGb;
  bar.firstElementChild.style.setProperty("--share", `${Math.round(Math.min(1, machine.usedGb / (machine.offeredGb || 1)) * 100)}%`);
  setText(memory.children[0], machine.offeredGb ? `${gb(machine.usedGb)} of ${gb(machine.offeredGb)}` : "");
  setText(memory.children[1], versionOf(machine, mine));
  setText(foot.children[0], machine.models.length ? `${rate(machine.speed)} tok/s · ${machine.busy} busy` : "");
  setText(foot.children[1], Number.isFinite(machine.rtt) ? ms(machine.rtt) : "");
  setText(tag, serves ? `answers ${lit}` : "");
  tag.hidden = !serves;
}

const versionOf = (machine, mine) => (machine.version ? `${mine && machine.version !== mine ? "▲ " : ""}v${machine.version}` : "");
