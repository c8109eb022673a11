// The node's state as this tab holds it: snapshot, then deltas. Applying every delta gives the snapshot.

export class Store extends EventTarget {
  state = new Map();
  history = [];
  seq = -1;
  static historyMax = 500;

  /** Take one frame; false means a gap: ask for a snapshot. */
  take(frame) {
    if (frame.type === "snapshot") {
      this.state = new Map(Object.entries(frame.state));
      this.history = frame.history.slice(-Store.historyMax);
      this.seq = frame.seq;
      this.#tell(null, true);
      return true;
    }
    if (frame.after !== this.seq) return false;
    this.seq = frame.seq;
    if (frame.type === "history") {
      this.history.push(frame.entry);
      if (this.history.length > Store.historyMax) this.history.shift();
      this.#tell(new Set(), true);
      return true;
    }
    for (const key of frame.drop) this.state.delete(key);
    for (const [key, entry] of Object.entries(frame.put)) this.state.set(key, entry);
    this.#tell(new Set([...Object.keys(frame.put), ...frame.drop]), false);
    return true;
  }

  get(key) { return this.state.get(key) ?? {}; }

  /** Entries of one kind, such as "model/", sorted by key. */
  all(prefix) {
    return [...this.state].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  }

  warmModels() { return this.all("model/").filter((model) => model.status === "warm"); }

  /** Call `render` now-ish and whenever a key that begins with one of `prefixes` changes. */
  watch(prefixes, render) {
    this.addEventListener("change", ({ detail: { keys } }) => {
      if (keys === null || [...keys].some((key) => prefixes.some((prefix) => key.startsWith(prefix)))) render();
    });
  }

  watchHistory(render) {
    this.addEventListener("change", ({ detail: { history } }) => { if (history) render(); });
  }

  #tell(keys, history) {
    this.dispatchEvent(new CustomEvent("change", { detail: { keys, history } }));
  }
}

export const store = new Store();
