// Messages as elements: what a person said, and what a model answers while it comes.
import { copyText, el, setText } from "./dom.js";
import { count, duration, rate } from "./format.js";
import { showBlocks } from "./markup.js";

export function userMessage(message, { edit }) {
  const node = el("article", { class: "message user" }, el("h2", { class: "visually-hidden" }, "You"));
  for (const [index, source] of (message.images ?? []).entries()) node.append(el("img", { class: "sent-image", src: source, alt: `Your picture ${index + 1}` }));
  const change = el("button", { class: "button small", type: "button", "aria-label": "Edit this message and ask again" }, "Edit");
  change.addEventListener("click", () => edit(message, node));
  node.append(el("div", { class: "bubble" }, message.content), el("div", { class: "tools" }, change));
  return node;
}

export class AnswerView {
  constructor(message, { retry }) {
    this.message = message;
    this.prose = el("div", { class: "prose" });
    this.who = el("h2", { class: "who" }, message.model || "Model");
    this.wait = el("div", { class: "typing", "aria-label": "Waiting for the first word" }, el("i"), el("i"), el("i"));
    this.meta = el("div", { class: "meta" });
    this.node = el("article", { class: "message assistant" }, this.who, this.wait, this.prose, this.meta);
    this.retry = retry;
  }

  streaming() { this.node.setAttribute("aria-busy", "true"); }

  addReasoning(text) {
    if (!this.reasoning) {
      this.reasoningText = el("div");
      this.reasoningHead = el("summary", {}, "Thinking…");
      this.reasoning = el("details", { class: "reasoning" }, this.reasoningHead, this.reasoningText);
      this.prose.before(this.reasoning);
    }
    this.wait.remove();
    this.reasoningText.append(text);
    this.reasoningText.scrollTop = this.reasoningText.scrollHeight;
  }

  html({ first, blocks }) {
    if (blocks.join("").trim()) this.wait.remove();
    showBlocks(this.prose, first, blocks);
  }

  plain(text) { this.prose.replaceChildren(el("p", {}, text)); }

  finish({ last }) {
    const { message } = this;
    this.wait.remove();
    this.node.removeAttribute("aria-busy");
    if (this.reasoning) setText(this.reasoningHead, message.thought_s ? `Thought for ${duration(message.thought_s)}` : "Reasoning");
    if (message.error) this.#error(message.error);
    this.#facts(last);
  }

  #error(text) {
    this.failure ??= el("p", { class: "callout bad", role: "alert" });
    setText(this.failure, text);
    this.prose.after(this.failure);
  }

  #facts(last) {
    const { message } = this;
    const facts = [];
    if (message.stopped) facts.push("Stopped");
    if (message.cut) facts.push("Cut off at its length limit");
    if (message.tokens_per_s) facts.push(`${rate(message.tokens_per_s)} tokens/s`);
    if (message.tokens) facts.push(count(message.tokens, "token"));
    if (message.node) facts.push(`answered by ${message.node}`);
    this.meta.replaceChildren(...facts.map((text) => el("span", {}, text)));
    if (message.content) {
      const copy = el("button", { class: "button small", type: "button", "aria-label": "Copy answer", "data-label": "Copy" }, "Copy");
      copy.addEventListener("click", () => copyText(message.content, copy));
      this.meta.append(copy);
    }
    if (last) {
      const again = el("button", { class: `button small retry${message.error ? " primary" : ""}`, type: "button" }, "Retry");
      again.addEventListener("click", this.retry);
      this.meta.append(again);
    }
  }
}
