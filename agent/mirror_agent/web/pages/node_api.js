// The node's own API: the client certificate is the sign-in, this origin the only one.

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the node answered ${status}`);
    this.status = status;
    this.code = error?.code ?? String(status);
  }
}

export async function get(path, { signal } = {}) {
  return (await send("GET", path, { signal })).json();
}

/** {status, message}: `accepted` and `succeeded` come back, everything else is thrown. */
export async function act(action, body) {
  const answer = await send("POST", `actions/${action}`, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  return answer.json();
}

async function send(method, path, options) {
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, { ...options, method, redirect: "error", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { code: "Unreachable", message: "The node does not answer. Through the virtual IP the other one will, once it serves." });
  }
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, document.error ?? (document.message ? { code: document.status, message: document.message } : null));
}
