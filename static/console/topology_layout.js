// Where each machine stands and which lines are drawn. Pure: machines and a width in, places out.
import { GONE } from "./machines.js";

/** Machines above which a table serves better than the drawing. */
export const DRAWING_MAX = 40;
/** Machines up to which boxes are large, and lines carry their words. */
const LARGE_MAX = 14;
const LABELS_MAX = 7;
const GAP = 18;
const GAP_MAX = 120;
const LABEL_H = 26;

function sizeFor(count, width) {
  if (count > LARGE_MAX) return { w: Math.min(176, (width - GAP) / 2), h: 70, large: false };
  return { w: Math.min(232, width), h: 138, large: true };
}

function tiersOf(machines, splits) {
  const here = new Map(machines.filter((m) => !GONE.has(m.state) && m.state !== "pending").map((m) => [m.id, m]));
  const placed = new Set();
  const tiers = [];
  for (const split of splits) {
    if (!here.has(split.host)) continue;
    const workers = split.parts.map((part) => part.id).filter((id) => here.has(id) && !placed.has(id));
    tiers.push({ label: split.model ? `Split: ${split.model}` : "Split", ids: [split.host], tight: true });
    tiers.push({ label: "", ids: workers, tight: false });
    for (const id of [split.host, ...workers]) placed.add(id);
  }
  const rest = [...here.values()].filter((m) => !placed.has(m.id));
  const drained = (m) => m.role === "drained";
  const hosting = (m) => !drained(m) && (m.role === "host" || m.models.length > 0);
  const ids = (test) => machines.filter(test).map((m) => m.id);
  const lone = rest.filter(hosting).map((m) => m.id);
  const below = [
    { label: "Standing by", ids: rest.filter((m) => !hosting(m) && !drained(m)).map((m) => m.id) },
    { label: "Drained", ids: rest.filter(drained).map((m) => m.id) },
    { label: "Asking to join", ids: ids((m) => m.state === "pending") },
    { label: "Gone", ids: ids((m) => GONE.has(m.state)) },
  ];
  // Beside a split everything else shares rows; without one the hosts stand above.
  if (tiers.length) return [...tiers.map((tier) => [tier]), [{ label: "On their own", ids: lone }, ...below]];
  return [[{ label: "Hosts", ids: lone }], below];
}

/** Tiers that fit into one row stand side by side; the others each get rows of their own. */
function bandsOf(machines, splits, most) {
  const bands = [];
  for (const group of tiersOf(machines, splits)) {
    let open = null;
    for (const tier of group.filter(({ ids }) => ids.length)) {
      const room = open && open.reduce((total, { ids }) => total + ids.length, 0) + tier.ids.length <= most;
      if (room) open.push(tier);
      else { open = [tier]; bands.push(open); }
    }
  }
  return bands;
}

function rowsOf(band, most) {
  const ids = band.flatMap((tier) => tier.ids);
  const count = Math.ceil(ids.length / most);
  const each = Math.ceil(ids.length / count);
  return Array.from({ length: count }, (_, row) => ids.slice(row * each, (row + 1) * each));
}

/** {places: Map(id -> {x, y, w, h}), labels: [{text, x, y}], links, height, large} */
export function layout(machines, splits, width, { ghost = false, selected = "" } = {}) {
  const size = sizeFor(machines.length, width);
  const words = machines.length <= LABELS_MAX;
  const most = Math.max(1, Math.floor((width + GAP) / (size.w + GAP)));
  const places = new Map();
  const labels = [];
  let y = 0;
  const bands = bandsOf(machines, splits, most);
  if (ghost) bands.at(-1)?.at(-1).ids.push("ghost");
  for (const band of bands) {
    const top = y;
    const labelled = band.filter((tier) => tier.label);
    y += labelled.length ? LABEL_H + (words && y > 0 ? 16 : 0) : 0;
    for (const row of rowsOf(band, most)) {
      const gap = Math.min(GAP_MAX, Math.max(GAP, (width - row.length * size.w) / (row.length + 1)));
      const total = row.length * size.w + (row.length - 1) * gap;
      row.forEach((id, index) => places.set(id, { x: Math.round((width - total) / 2 + index * (size.w + gap)), y, w: size.w, h: size.h }));
      y += size.h + GAP;
    }
    for (const tier of labelled) labels.push({ text: tier.label, x: band.length > 1 ? places.get(tier.ids[0]).x : 4, y: top });
    y += band[0].tight ? 44 : words ? 30 : 6;
  }
  return { places, labels, links: linksOf(machines, splits, places, words, selected), height: Math.max(size.h, y - GAP - (words ? 24 : 0)), large: size.large };
}

function linksOf(machines, splits, places, words, selected) {
  const links = [];
  const joined = new Set();
  for (const split of splits) {
    for (const part of split.parts) {
      if (!places.has(split.host) || !places.has(part.id)) continue;
      links.push({ key: `split/${split.host}/${part.id}`, kind: "split", from: split.host, to: part.id, ...part, words: true });
      joined.add([split.host, part.id].sort().join());
    }
  }
  const me = machines.find((machine) => machine.you);
  if (!me) return links;
  for (const machine of machines) {
    // A star of many lines says nothing, and beside a split it would run through its boxes.
    if ((!words || splits.length) && machine.id !== selected) continue;
    const pair = [me.id, machine.id].sort().join();
    if (machine.you || machine.state === "pending" || joined.has(pair)) continue;
    links.push({ key: `mesh/${machine.id}`, kind: GONE.has(machine.state) ? "gone" : "mesh", from: me.id, to: machine.id, via: machine.lane, rtt: machine.rtt, state: machine.state, words });
  }
  return links;
}

/** The line from one box to another, and the place of its words. */
export function course(a, b) {
  const [ax, bx] = [a.x + a.w / 2, b.x + b.w / 2];
  if (Math.abs(a.y - b.y) < a.h / 2) {
    const [left, right] = a.x < b.x ? [a, b] : [b, a];
    const y = left.y + left.h / 2;
    const [x1, x2] = [left.x + left.w, right.x];
    if (x2 - x1 <= GAP_MAX + 1) return { d: `M${x1} ${y}L${x2} ${y}`, x: (x1 + x2) / 2, y: y - 7, room: x2 - x1 };
    const low = left.y + left.h;
    return { d: `M${left.x + left.w / 2} ${low}C${left.x + left.w / 2} ${low + 30} ${right.x + right.w / 2} ${low + 30} ${right.x + right.w / 2} ${low}`, x: (left.x + right.x + left.w) / 2, y: low + 18, room: 140 };
  }
  const [up, down] = a.y < b.y ? [a, b] : [b, a];
  const [ux, dx] = a.y < b.y ? [ax, bx] : [bx, ax];
  const [y1, y2] = [up.y + up.h, down.y];
  const bend = Math.max(16, (y2 - y1) / 2);
  return { d: `M${ux} ${y1}C${ux} ${y1 + bend} ${dx} ${y2 - bend} ${dx} ${y2}`, x: (ux + 3 * dx) / 4, y: y2 - Math.min(20, (y2 - y1) / 2) + 5, room: 140 };
}
