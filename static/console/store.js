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

  /** [key, entry] of one kind, such as "model/", sorted by key. */
  pairs(prefix) {
    return [...this.state].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
  }

  all(prefix) { return this.pairs(prefix).map(([, entry]) => entry); }

  warmModels() { return this.all("model/").filter((model) => model.status === "warm"); }

  /**
   * Call `render` at most once a frame when a key that begins with one of `prefixes` changes. While `view`
   * is not shown it waits until it is: what nobody sees costs nothing.
   */
  watch(prefixes, render, view = "") {
    const job = this.#job(render, view);
    this.addEventListener("change", ({ detail: { keys } }) => {
      const hit = keys === null || [...keys].some((key) => prefixes.some((prefix) => key.startsWith(prefix)));
      if (hit) this.#mark(job);
    });
    return () => this.#mark(job);
  }

  watchHistory(render, view = "") {
    const job = this.#job(render, view);
    this.addEventListener("change", ({ detail: { history } }) => { if (history) this.#mark(job); });
    return () => this.#mark(job);
  }

  /** Render what waited for `name`, and from now on what changes there. */
  show(name) {
    this.#shown = name;
    this.#run();
  }

  #jobs = [];
  #shown = "";
  #frame = 0;

  #job(render, view) {
    const job = { render, view, dirty: false };
    this.#jobs.push(job);
    return job;
  }

  #mark(job) {
    job.dirty = true;
    // A tab in the background gets no frames: it renders once when it is looked at again.
    this.#frame ||= requestAnimationFrame(() => this.#run());
  }

  #run() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.seq < 0) return;
    for (const job of this.#jobs) {
      if (!job.dirty || (job.view && job.view !== this.#shown)) continue;
      job.dirty = false;
      try { job.render(); } catch (error) { reportError(error); }
    }
  }

  #tell(keys, history) {
    this.dispatchEvent(new CustomEvent("change", { detail: { keys, history } }));
  }
}

export const store = new Store();
