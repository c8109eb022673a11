// One answer on its way: reads the node's events, calls back for each.
import { post, reasonOf } from "./api.js";

/** Yield {event, data} of a server-sent stream. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const kind = /^event: (.*)$/m.exec(part)?.[1];
        const data = /^data: (.*)$/m.exec(part)?.[1];
        if (kind && data) yield { kind, data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Ask, and report into `on` (text, reasoning, html, done). Resolves to an error sentence, or "". */
export async function ask(request, signal, on) {
  try {
    const response = await post("/api/chat", request, signal);
    if (!response.ok) return await reasonOf(response);
    for await (const { kind, data } of events(response.body)) {
      if (kind === "error") return data.message;
      on[kind]?.(data);
      if (kind === "done") return "";
    }
    return "The answer broke off: the connection to the node was lost.";
  } catch (error) {
    if (error.name === "AbortError") return "";
    return "The node cannot be reached. Is it running?";
  }
}
