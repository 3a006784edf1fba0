// The node's own API: the client certificate is the sign-in, this origin the only one. What is asked of the other node
// goes through this one, which passes it on in the reader's name.

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the node answered ${status}`);
    this.status = status;
    this.code = error?.code ?? String(status);
  }
}

/** Reads and orders of one node: `own` or the other one. */
export function nodeApi(own) {
  const prefix = own ? "" : "peer/";
  return {
    get: async (path, { signal } = {}) => (await send("GET", prefix + path, { signal })).json(),

    /** {status, message}: `accepted` and `succeeded` come back, everything else is thrown. */
    act: async (action, body) => {
      const headers = { "Content-Type": "application/json" };
      return (await send("POST", `${prefix}actions/${action}`, { body: JSON.stringify(body), headers })).json();
    },
  };
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
