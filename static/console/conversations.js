// Conversations kept in this browser, within bounds: the oldest go first.

const KEY = "mesh-conversations";
const CONVERSATIONS_MAX = 40;
const MESSAGES_MAX = 200;
const CHARS_MAX = 4_000_000;
const IMAGES_MAX = 4;

const text = (value) => (typeof value === "string" ? value : "");
const number = (value) => (Number.isFinite(value) ? value : undefined);

// What is kept may be of another version or written by hand: only what fits is taken.
function messageFrom(kept) {
  const { role, content, reasoning, model, node, error, tokens_per_s: speed, tokens, thought_s: thought, stopped, cut } = kept;
  if (role === "user") {
    const images = Array.isArray(kept.images) ? kept.images.filter((one) => text(one).startsWith("data:image/jpeg;base64,")).slice(0, IMAGES_MAX) : [];
    return images.length ? { role, content, images } : { role, content };
  }
  return {
    role, content, reasoning: text(reasoning), model: text(model), node: text(node), error: text(error),
    tokens_per_s: number(speed), tokens: number(tokens), thought_s: number(thought), stopped: stopped === true, cut: cut === true,
  };
}

function settingsFrom(kept) {
  if (!kept || typeof kept !== "object") return {};
  const found = Object.fromEntries(["temperature", "top_p", "max_tokens", "seed"].filter((name) => Number.isFinite(kept[name])).map((name) => [name, kept[name]]));
  return text(kept.system) ? { ...found, system: kept.system } : found;
}

function conversationFrom({ id, title, messages, settings }) {
  const good = messages.filter((kept) => kept && ["user", "assistant"].includes(kept.role) && typeof kept.content === "string");
  return { id, title: text(title), settings: settingsFrom(settings), messages: good.map(messageFrom) };
}

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return kept.filter((item) => item && typeof item.id === "string" && Array.isArray(item.messages)).map(conversationFrom);
  } catch {
    return [];
  }
}

let all = load();

/** Keep everything that fits; false when this browser keeps nothing at all. */
export function save() {
  all = all.slice(0, CONVERSATIONS_MAX);
  for (const item of all) item.messages = item.messages.slice(-MESSAGES_MAX);
  for (;;) {
    try {
      const text = JSON.stringify(all.filter((item) => item.messages.length));
      if (text.length <= CHARS_MAX || all.length <= 1) { localStorage.setItem(KEY, text); return true; }
    } catch {
      if (all.length <= 1) return false;
    }
    all.pop();
  }
}

export const list = () => all;

export function create() {
  const empty = all.find((item) => !item.messages.length);
  if (empty) return empty;
  const id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
  const made = { id, title: "", settings: {}, messages: [] };
  all.unshift(made);
  return made;
}

export function touch(conversation) {
  all = [conversation, ...all.filter((item) => item !== conversation)];
}

export function remove(conversation) {
  all = all.filter((item) => item !== conversation);
  save();
}

export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user");
  return first ? first.content.trim().slice(0, 60) : "New chat";
}
