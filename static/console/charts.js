// Small line charts in SVG: a few lines over time, told apart by colour and dash, read off under the pointer.
import { el, keyed, setAttribute, setText, svg } from "./dom.js";
import { clock } from "./format.js";

const W = 520;
const H = 150;
const LEFT = 44;
const TOP = 8;
const BOTTOM = 20;
export const LINES_MAX = 6;

/** A round number at or above `value`. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= value - 1e-9);
}

const short = (value) => (value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1e4 ? `${+(value / 1e3).toFixed(1)}k` : value >= 100 ? String(Math.round(value)) : String(+value.toFixed(value < 1 ? 2 : 1)));

export class Chart {
  #box; #title; #unit; #drawing; #lines; #cursor; #legend; #read; #ticks; #times; #empty;
  #shown = null;

  constructor(box, title, unit) {
    this.#box = box;
    this.#title = title;
    this.#unit = unit;
    this.#ticks = svg("g", { class: "ticks" });
    this.#times = svg("g", { class: "ticks" });
    this.#lines = svg("g");
    this.#cursor = svg("line", { class: "cursor", y1: TOP, y2: H - BOTTOM, visibility: "hidden" });
    this.#drawing = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: "0" }, this.#ticks, this.#times, this.#lines, this.#cursor);
    this.#legend = el("ul", { class: "plain legend" });
    this.#read = el("span", { class: "muted small-text num", role: "status" });
    this.#empty = el("p", { class: "empty small-text", hidden: true }, "Nothing in this span.");
    box.append(el("div", { class: "card-head" }, el("h2", {}, title, el("span", { class: "muted unit" }, ` ${unit}`)), this.#read), this.#drawing, this.#empty, this.#legend);
    this.#drawing.addEventListener("pointermove", (event) => this.#at(this.#pointOf(event)));
    this.#drawing.addEventListener("pointerleave", () => this.#at(null));
    this.#drawing.addEventListener("keydown", (event) => this.#step(event));
    this.#drawing.addEventListener("blur", () => this.#at(null));
  }

  /** `lines`: [{name, values}], values of one length, null for "not known". */
  draw({ start, step, lines }) {
    const shown = lines.slice(0, LINES_MAX);
    const points = shown[0]?.values.length ?? 0;
    const most = ceiling(Math.max(0, ...shown.flatMap((line) => line.values.filter(Number.isFinite))));
    const x = (index) => LEFT + (points > 1 ? index * (W - LEFT - 6) / (points - 1) : (W - LEFT) / 2);
    const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - value / most);
    this.#shown = { start, step, lines: shown, points, x };
    keyed(this.#lines, shown.map((line) => line.name), () => svg("path"), (path, name) => {
      const index = shown.findIndex((line) => line.name === name);
      setAttribute(path, "class", `series s${index}`);
      setAttribute(path, "d", pathOf(shown[index].values, x, y));
    });
    const marks = [0, most / 2, most];
    keyed(this.#ticks, marks.map(String), () => svg("g", {}, svg("line", { x1: LEFT, x2: W }), svg("text", { "text-anchor": "end", x: LEFT - 6 })), (group, value) => {
      const at = y(Number(value));
      for (const side of ["y1", "y2"]) setAttribute(group.firstElementChild, side, at);
      setAttribute(group.lastElementChild, "y", at + 4);
      setText(group.lastElementChild, short(Number(value)));
    });
    const times = points > 1 ? [0, Math.floor(points / 2), points - 1] : [];
    keyed(this.#times, times.map(String), () => svg("text", { y: H - 4 }), (text, index) => {
      const last = Number(index) === points - 1;
      setAttribute(text, "x", x(Number(index)));
      setAttribute(text, "text-anchor", index === "0" ? "start" : last ? "end" : "middle");
      setText(text, clock(start + Number(index) * step).replace(/:\d\d$/, ""));
    });
    const known = shown.some((line) => line.values.some((value) => value > 0));
    this.#empty.hidden = known;
    keyed(this.#legend, known ? shown.map((line) => line.name) : [], () => el("li", {}, swatch(), el("span")), (item, name) => {
      setAttribute(item.firstElementChild.firstElementChild, "class", `series s${shown.findIndex((line) => line.name === name)}`);
      setText(item.lastElementChild, name || "no model");
    });
    setAttribute(this.#drawing, "aria-label", `${this.#title}, ${this.#unit}. ${shown.map((line) => spoken(line)).join(" ")}`);
  }

  #pointOf(event) {
    const { points } = this.#shown ?? {};
    if (!points) return null;
    const box = this.#drawing.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * W;
    return Math.min(points - 1, Math.max(0, Math.round((at - LEFT) / (W - LEFT - 6) * (points - 1))));
  }

  #point = null;
  #step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || !this.#shown?.points) return;
    event.preventDefault();
    this.#at(Math.min(this.#shown.points - 1, Math.max(0, (this.#point ?? this.#shown.points) + way)));
  }

  #at(point) {
    this.#point = point;
    setAttribute(this.#cursor, "visibility", point == null ? "hidden" : "visible");
    if (point == null) { setText(this.#read, ""); return; }
    const { x, start, step, lines } = this.#shown;
    setAttribute(this.#cursor, "x1", x(point));
    setAttribute(this.#cursor, "x2", x(point));
    const values = lines.map((line) => `${line.name || "no model"} ${Number.isFinite(line.values[point]) ? short(line.values[point]) : "–"}`);
    setText(this.#read, `${clock(start + point * step).replace(/:\d\d$/, "")}: ${values.join(", ")} ${this.#unit}`);
  }
}

const swatch = () => svg("svg", { viewBox: "0 0 28 10", class: "swatch", "aria-hidden": "true" }, svg("path", { d: "M1 5L27 5" }));

function spoken(line) {
  const values = line.values.filter(Number.isFinite);
  return values.length ? `${line.name || "no model"}: ${short(values.at(-1))} now, ${short(Math.max(...values))} at most.` : "";
}

function pathOf(values, x, y) {
  let path = "";
  let gap = true;
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) { gap = true; return; }
    const lone = gap && !Number.isFinite(values[index + 1]);
    path += `${gap ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}${lone ? "h0.01" : ""}`;
    gap = false;
  });
  return path;
}
