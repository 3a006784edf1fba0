// The only way to the control plane: same origin, bearer token, conditional reads, errors with their words.

const VERSION = "2026-11-01";
const KEY = "mirrorplane-token";

export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the control plane answered ${status}`);
    this.status = status;
    this.code = error?.code ?? String(status);
    this.target = error?.target ?? null;
    this.details = error?.details ?? [];
  }
}

/** For the time of this tab; a console that is closed has forgotten it. */
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

const seen = new Map(); // path → {etag, body, at} of answers that carry an ETag

export async function get(path, query = {}, { signal } = {}) {
  const address = withQuery(path, query);
  const known = seen.get(address);
  const answer = await send("GET", address, { headers: known ? { "If-None-Match": known.etag } : {}, signal });
  if (answer.status === 304) return known.body.clock ? { ...known.body, clock: later(known) } : known.body;
  const body = await answer.json();
  const etag = answer.headers.get("ETag");
  if (etag) {
    seen.clear(); // one page is shown at a time
    seen.set(address, { etag, body, at: performance.now() });
  }
  return body;
}

/** The control plane's clock, which goes on while nothing else changes. */
const later = ({ body, at }) => new Date(Date.parse(body.clock) + performance.now() - at).toISOString();

/** Follows a nextLink of the API, which names the public address: only its path and query are used. */
export async function follow(link) {
  const url = new URL(link);
  const answer = await send("GET", url.pathname + url.search, {});
  return answer.json();
}

export async function change(method, path, body = null, headers = {}) {
  const answer = await send(method, withQuery(path, {}), {
    headers: body === null ? headers : { ...headers, "Content-Type": "application/json" },
    body: body === null ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { body: text ? JSON.parse(text) : null, operation: answer.headers.get("Operation-Id") };
}

/** The download behind a one-time link; the link itself is the credential. */
export async function redeem(link) {
  const answer = await send("POST", withQuery("credential-downloads", {}), { bearer: link });
  return answer.json();
}

async function send(method, address, options) {
  const bearer = options.bearer ?? token.get();
  const headers = { ...options.headers, ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) };
  let answer;
  try {
    answer = await fetch(address, { body: options.body, signal: options.signal, method, headers, redirect: "error", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { code: "Unreachable", message: "The control plane does not answer. Your clusters work on without it." });
  }
  if (answer.ok || answer.status === 304) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, document.error);
}

function withQuery(path, query) {
  const given = Object.entries({ "api-version": VERSION, ...query }).filter(([, value]) => value !== "" && value !== null);
  return `/api/${path}?${new URLSearchParams(given)}`;
}

export const API_VERSION = VERSION;
