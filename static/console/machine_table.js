// The machines as a table: for meshes that a drawing would not serve, and for whoever prefers one.
import { byId, el, keyed, setAttribute, setPill, setText } from "./dom.js";
import { gb, ms, rate } from "./format.js";
import { LANES, roleOf, standing } from "./machines.js";

const ORDER = ["failed", "dead", "suspect", "late", "pending", "stopping", "draining", "starting", "drained", "waiting", "alive", "serving", "left"];
const text = (machine) => [machine.name, machine.id, roleOf(machine), standing(machine)[2], machine.version, ...machine.models.map((model) => model.name)].join(" ").toLowerCase();

/** name -> [heading, sort value, class for the narrow screen] */
const COLUMNS = {
  name: ["Machine", (m) => m.name.toLowerCase(), ""],
  state: ["State", (m) => ORDER.indexOf(m.state), ""],
  role: ["Role", (m) => roleOf(m), "wide-only"],
  models: ["Serves", (m) => m.models.map((model) => model.name).join(), ""],
  memory: ["Memory", (m) => -m.offeredGb, ""],
  load: ["Load", (m) => -m.speed, "wide-only"],
  rtt: ["Round trip", (m) => (Number.isFinite(m.rtt) ? m.rtt : -1), "wide-only"],
  version: ["Version", (m) => m.version, "wide-only"],
};

export class MachineTable {
  #sort = "";
  #up = true;
  #onSelect;
  #last = null;

  constructor(onSelect) {
    this.#onSelect = onSelect;
    const row = el("tr");
    for (const [name, [heading, , narrow]] of Object.entries(COLUMNS)) {
      const button = el("button", { type: "button", class: "sort", "data-column": name }, heading, el("span", { "aria-hidden": "true" }));
      button.addEventListener("click", () => this.#by(name));
      row.append(el("th", { scope: "col", class: narrow }, button));
    }
    byId("machine-head").replaceChildren(row);
    byId("machine-filter").addEventListener("input", () => this.#last && this.draw(...this.#last));
  }

  draw(machines, { selected, lit, mine }) {
    this.#last = [machines, { selected, lit, mine }];
    const asked = byId("machine-filter").value.trim().toLowerCase();
    const shown = machines.filter((machine) => text(machine).includes(asked));
    if (this.#sort) {
      const value = COLUMNS[this.#sort][1];
      shown.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (this.#up ? 1 : -1));
    }
    const found = new Map(shown.map((machine) => [machine.id, machine]));
    keyed(byId("machine-rows"), [...found.keys()], (id) => this.#create(id), (row, id) => renderRow(row, found.get(id), selected, lit, mine));
    byId("machine-none").hidden = shown.length > 0;
    setText(byId("machine-count"), asked ? `${shown.length} of ${machines.length}` : "");
  }

  #by(name) {
    this.#up = this.#sort === name ? !this.#up : true;
    this.#sort = name;
    for (const button of byId("machine-head").querySelectorAll(".sort")) {
      const on = button.dataset.column === name;
      button.lastElementChild.textContent = on ? (this.#up ? " ↑" : " ↓") : "";
      if (on) button.closest("th").setAttribute("aria-sort", this.#up ? "ascending" : "descending");
      else button.closest("th").removeAttribute("aria-sort");
    }
    if (this.#last) this.draw(...this.#last);
  }

  #create(id) {
    const name = el("button", { type: "button", class: "row-name" });
    name.addEventListener("click", (event) => { event.stopPropagation(); this.#onSelect(id, name); });
    const row = el("tr", {},
      el("th", { scope: "row" }, name, el("span", { class: "you-tag" })), el("td", {}, el("span", { class: "pill" })), el("td", { class: "wide-only" }),
      el("td", { class: "row-models" }), el("td", {}, el("span", { class: "bar mini" }, el("span")), el("span", { class: "num small-text" })),
      el("td", { class: "num wide-only" }), el("td", { class: "num wide-only" }), el("td", { class: "num wide-only" }));
    row.addEventListener("click", () => this.#onSelect(id, name));
    return row;
  }
}

function renderRow(row, machine, selected, lit, mine) {
  const [name, state, role, models, memory, load, rtt, version] = row.children;
  const [tone, sign, word] = standing(machine);
  const serves = Boolean(lit) && machine.models.some((model) => model.name === lit);
  row.classList.toggle("lit", serves);
  row.classList.toggle("chosen", machine.id === selected);
  setText(name.firstElementChild, machine.name);
  setAttribute(name.firstElementChild, "aria-pressed", machine.id === selected);
  setText(name.lastElementChild, [machine.you ? "you" : "", serves ? `answers ${lit}` : ""].filter(Boolean).join(" · "));
  setPill(state.firstElementChild, tone, word, sign);
  setText(role, roleOf(machine));
  setText(models, machine.models.map((model) => model.name).join(", ") || "–");
  const [bar, words] = memory.children;
  bar.hidden = !machine.offeredGb;
  bar.firstElementChild.style.setProperty("--share", `${Math.round(Math.min(1, machine.usedGb / (machine.offeredGb || 1)) * 100)}%`);
  setText(words, machine.offeredGb ? `${gb(machine.usedGb).replace("\u00a0GB", "")} of ${gb(machine.offeredGb)}` : "–");
  setText(load, machine.models.length ? `${rate(machine.speed)} tok/s` : "–");
  setText(rtt, Number.isFinite(machine.rtt) ? `${ms(machine.rtt)} ${(LANES[machine.lane] ?? "").split(" ")[0]}` : "–");
  setText(version, machine.version ? (mine && machine.version !== mine ? `▲ ${machine.version}` : machine.version) : "–");
}
