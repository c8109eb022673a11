// Ready code with this node's real address and model.
import { byId, copyText, el, keyed, setText } from "./dom.js";
import { store } from "./store.js";

const shell = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
const quoted = (text) => JSON.stringify(String(text)).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

// Where the node wants a key, the reader puts it in: the page does not know it.
const KEY_TO_FILL_IN = "YOUR_API_KEY";

function texts(url, model, needsKey) {
  const key = needsKey ? KEY_TO_FILL_IN : "none";
  const bearer = needsKey ? `  -H 'Authorization: Bearer ${key}' \\\n` : "";
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello!" }] });
  return new Map([
    ["Python", `# pip install openai\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${quoted(url)}, api_key="${key}")\nstream = client.chat.completions.create(\n    model=${quoted(model)},\n    messages=[{"role": "user", "content": "Hello!"}],\n    stream=True,\n)\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)`],
    ["curl", `curl ${shell(`${url}/chat/completions`)} \\\n  -H 'Content-Type: application/json' \\\n${bearer}  -d ${shell(body)}`],
    ["JavaScript", `// npm install openai\nimport OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${quoted(url)}, apiKey: "${key}" });\nconst answer = await client.chat.completions.create({\n  model: ${quoted(model)},\n  messages: [{ role: "user", content: "Hello!" }],\n});\nconsole.log(answer.choices[0].message.content);`],
    ["aider", `aider --openai-api-base ${shell(url)} --openai-api-key ${key} --model ${shell(`openai/${model}`)}`],
    ["Open WebUI", `OPENAI_API_BASE_URL=${shell(url)} OPENAI_API_KEY=${key} open-webui serve`],
    ["Agents that speak OpenAI", `export OPENAI_BASE_URL=${shell(url)}\nexport OPENAI_API_BASE=${shell(url)}\nexport OPENAI_API_KEY=${key}\nexport OPENAI_MODEL=${shell(model)}`],
    ["Agents that speak Anthropic", `export ANTHROPIC_BASE_URL=${shell(url.replace(/\/v1$/, ""))}\nexport ANTHROPIC_AUTH_TOKEN=${key}\nexport ANTHROPIC_MODEL=${shell(model)}`],
  ]);
}

export function snippet(title) {
  const code = el("code");
  const copy = el("button", { class: "button small", type: "button", "aria-label": `Copy: ${title}`, "data-label": "Copy" }, "Copy");
  copy.addEventListener("click", () => copyText(code.textContent, copy));
  return el("figure", { class: "snippet" },
    el("figcaption", { class: "snippet-head" }, el("strong", {}, title), copy),
    el("pre", { tabindex: "0", "aria-label": title }, code));
}

function addressOf(node) {
  const given = node.api_url || `http://localhost:${node.api_port ?? 9337}`;
  const base = given.replace(/\/+$/, "");
  return base.endsWith("/v1") ? base : `${base}/v1`;
}

function render() {
  const node = store.get("node");
  const url = addressOf(node);
  const names = store.warmModels().map((model) => model.name);
  const picker = byId("use-model");
  keyed(picker, names, (name) => el("option", { value: name }, name), () => {});
  byId("use-picker").hidden = names.length < 2;
  const model = names.includes(picker.value) ? picker.value : names[0] ?? store.all("model/")[0]?.name ?? "MODEL";
  setText(byId("use-address"), url);
  keyedSnippets(texts(url, model, node.needs_key));
}

function keyedSnippets(all) {
  const box = byId("snippets");
  for (const [title, text] of all) {
    let item = [...box.children].find((child) => child.dataset.key === title);
    if (!item) {
      item = snippet(title);
      item.dataset.key = title;
      box.append(item);
    }
    setText(item.querySelector("code"), text);
  }
}

export function startSnippets() {
  store.watch(["node", "model/"], render, "use");
  byId("use-model").addEventListener("change", render);
}
