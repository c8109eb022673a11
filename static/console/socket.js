// The websocket: acknowledges every frame, asks again on a gap, reconnects with growing waits.
import { store } from "./store.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const STALE_AFTER_MS = 4000;

export class Live extends EventTarget {
  phase = "connecting";
  #socket = null;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #staleTimer = 0;
  #lastFrame = 0;
  #logModel = "";

  start() {
    this.#open();
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#wake(); });
    addEventListener("online", () => this.#wake());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#wake(); });
  }

  /** Subscribe to one engine's log; an empty name ends it. */
  log(model) {
    this.#logModel = model;
    this.#send({ type: "log", model });
  }

  #open() {
    clearTimeout(this.#timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/topology`);
    this.#socket = socket;
    socket.onmessage = (event) => { if (socket === this.#socket) this.#take(JSON.parse(event.data)); };
    socket.onclose = () => { if (socket === this.#socket) this.#lost(); };
    socket.onopen = () => { if (this.#logModel) this.log(this.#logModel); };
  }

  #take(frame) {
    this.#lastFrame = Date.now();
    this.#send({ type: "ack", n: frame.n });
    if (frame.type === "log") {
      this.dispatchEvent(new CustomEvent("log", { detail: frame }));
      return;
    }
    if (!store.take(frame)) {
      this.#send({ type: "resync" });
      return;
    }
    if (frame.type === "snapshot") this.#settled();
  }

  #settled() {
    this.#wait = FIRST_WAIT_MS;
    clearTimeout(this.#staleTimer);
    this.#staleTimer = 0;
    this.#enter("live");
  }

  #lost() {
    this.#socket = null;
    this.#enter(this.phase === "stale" ? "stale" : "reconnecting");
    if (!this.#staleTimer) this.#staleTimer = setTimeout(() => this.#enter("stale"), STALE_AFTER_MS);
    const jitter = 0.8 + Math.random() * 0.4;
    this.#timer = setTimeout(() => this.#open(), this.#wait * jitter);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  // A tab that slept may hold a dead socket that never says so: ask, and start over when nothing comes.
  #wake() {
    if (!this.#socket) {
      this.#wait = FIRST_WAIT_MS;
      this.#open();
      return;
    }
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const asked = Date.now();
    this.#send({ type: "resync" });
    setTimeout(() => {
      const socket = this.#socket;
      if (this.#lastFrame >= asked || !socket) return;
      this.#socket = null;
      socket.close();
      this.#lost();
    }, 1500);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #enter(phase) {
    if (phase !== "live" && phase === this.phase) return;
    this.phase = phase;
    this.dispatchEvent(new CustomEvent("phase", { detail: phase }));
  }
}

export const live = new Live();
