// Pictures for models that see: made small here, so that a conversation stays small enough to send and keep.
import { byId, el, toast } from "./dom.js";

const SIDE_MAX = 1024;
const QUALITY = 0.82;
const IMAGES_MAX = 4;
let waiting = [];

async function small(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE_MAX / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG knows no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", QUALITY);
}

function render() {
  byId("attached").replaceChildren(...waiting.map((source, index) => {
    const remove = el("button", { class: "button small", type: "button", "aria-label": `Remove picture ${index + 1}` }, "✕");
    remove.addEventListener("click", () => { waiting.splice(index, 1); render(); byId("prompt").focus(); });
    return el("li", {}, el("img", { src: source, alt: `Picture ${index + 1}` }), remove);
  }));
  byId("attached").hidden = !waiting.length;
}

export async function attach(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    if (waiting.length >= IMAGES_MAX) { toast(`At most ${IMAGES_MAX} pictures go with one message.`); break; }
    try {
      waiting.push(await small(file));
    } catch {
      toast(`${file.name || "This file"} is no picture that this browser can read.`);
    }
  }
  render();
}

/** The pictures for the message that is sent now; none wait afterwards. */
export function takeAttached() {
  const taken = waiting;
  waiting = [];
  render();
  return taken;
}

export function showAttach(on) {
  byId("attach").hidden = !on;
  if (!on && waiting.length) takeAttached();
}

export function startAttachments() {
  byId("attach").addEventListener("click", () => byId("attach-file").click());
  byId("attach-file").addEventListener("change", (event) => { attach(event.target.files); event.target.value = ""; });
  const able = () => !byId("attach").hidden;
  byId("prompt").addEventListener("paste", (event) => { if (able()) attach(event.clipboardData?.files ?? []); });
  byId("view-chat").addEventListener("dragover", (event) => { if (able()) event.preventDefault(); });
  byId("view-chat").addEventListener("drop", (event) => { if (able()) { event.preventDefault(); attach(event.dataTransfer?.files ?? []); } });
}
