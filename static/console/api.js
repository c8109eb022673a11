// Calls of the console's own small API.

export const isOperator = () => document.body.dataset.operator === "yes";
export const canJoin = () => document.body.dataset.canJoin === "yes";

function csrfToken() {
  const pair = document.cookie.split("; ").find((part) => part.startsWith("csrftoken="));
  return pair ? pair.slice("csrftoken=".length) : "";
}

export function post(path, body, signal) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify(body),
    signal,
  });
}

/** Return the sentence of an error answer of ours. */
export async function reasonOf(response) {
  try {
    const body = await response.json();
    return body.error?.message ?? body.text ?? `The node answered with status ${response.status}.`;
  } catch {
    return `The node answered with status ${response.status}.`;
  }
}
