// The one place where markup enters the page: HTML that the node has rendered and sanitised.
import { copyText, el } from "./dom.js";

const policy = globalThis.trustedTypes?.createPolicy("mesh-message", { createHTML: (html) => html })
  ?? { createHTML: (html) => html };

/** Show rendered blocks in `box`; those before `first` are finished and stay untouched. */
export function showBlocks(box, first, blocks) {
  while (box.children.length > first + blocks.length) box.lastElementChild.remove();
  blocks.forEach((html, offset) => {
    const index = first + offset;
    let block = box.children[index];
    if (!block) { block = el("div"); box.append(block); }
    block.innerHTML = policy.createHTML(html);
    dressCode(block);
  });
}

function dressCode(block) {
  for (const pre of block.querySelectorAll("pre")) {
    const language = /language-(\S+)/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";
    const copy = el("button", { class: "button small", type: "button", "aria-label": "Copy code", "data-label": "Copy" }, "Copy");
    copy.addEventListener("click", () => copyText(pre.textContent, copy));
    const box = el("div", { class: "code" });
    pre.replaceWith(box);
    pre.tabIndex = 0;
    box.append(el("div", { class: "code-head" }, el("span", {}, language || "text"), copy), pre);
  }
}
