// How states look: always a word and a shape, the colour only says it again.

import { h, svg } from "./dom.js";

const SHAPES = {
  good: ["M3 8.5l3 3 7-7", "stroke"],
  warn: ["M8 2l7 12H1z", "fill"],
  bad: ["M4 4l8 8M12 4l-8 8", "stroke"],
  busy: ["M8 2a6 6 0 1 1-6 6", "stroke"],
  none: ["M3 8h10", "stroke"],
  person: ["M8 2a3 3 0 1 1 0 6a3 3 0 1 1 0-6M2 15c0-7 12-7 12 0z", "fill"],
};

const VERDICTS = { healthy: "good", degraded: "warn", exposed: "warn", down: "bad", unknown: "none" };
const SAFETY = {
  "in-sync": ["good", "in sync"],
  exposed: ["warn", "exposed"],
  "all-serve": ["good", "all serve"],
  reduced: ["warn", "some serve"],
  "not-serving": ["bad", "not serving"],
  unknown: ["none", "unknown"],
};
const SEVERITIES = { critical: "bad", error: "bad", warning: "warn", info: "none" };

/** A badge: shape, word, colour of a kind. */
export function badge(kind, word, title) {
  const [path, way] = SHAPES[kind];
  const drawing = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: way }, svg("path", { d: path }));
  return h("span", { class: `badge ${kind}`, title }, drawing, word);
}

export const verdictBadge = (state) => badge(VERDICTS[state] ?? "none", state);
export const safetyBadge = (state) => badge(...(SAFETY[state] ?? ["none", state]));
export const severityBadge = (severity) => badge(SEVERITIES[severity] ?? "none", severity);

/** SafeKit's colours: ready is green, in between orange, not ready red; STOP is red, WAIT orange. */
export function roleKind(role, phase) {
  if (!role) return "none";
  if (role === "STOP") return "bad";
  if (role === "WAIT" || phase !== "ready") return "busy";
  return role === "ALONE" ? "warn" : "good";
}

export const roleBadge = (role, phase) =>
  badge(roleKind(role, phase), role ? `${role} ${phase === "ready" ? "ready" : phase ?? ""}`.trim() : "no word");

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const at = UNITS.findIndex(([size]) => whole >= size);
  if (at < 0) return "0 s";
  const [size, unit] = UNITS[at];
  const rest = Math.floor((whole % size) / (UNITS[at + 1]?.[0] ?? 1));
  const more = size > 1 && rest ? ` ${rest} ${UNITS[at + 1][1]}` : "";
  return `${Math.floor(whole / size)} ${unit}${more}`;
}

/** A moment, with its age by the control plane's clock. */
export function when(text, clock) {
  if (!text) return "–";
  const at = new Date(text);
  const age = clock ? (new Date(clock) - at) / 1000 : null;
  const shown = at.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
  return h("time", { datetime: text, title: text }, age === null ? shown : `${shown} (${duration(age)} ago)`);
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < SIZES.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${SIZES[unit]}`;
}

export const number = (value) => value.toLocaleString();

export const LINKS = {
  live: ["good", "replicating"],
  resync: ["busy", "resynchronising"],
  connecting: ["warn", "no replica"],
  lost: ["bad", "link lost"],
  none: ["none", "no replication"],
};

/** How far a resync is, and how long it will take; null when none runs. */
export function resyncBar({ link, resyncDoneBytes: done, resyncTotalBytes: total, resyncRemainingS: leftS, resyncDoneEntries: entries, resyncTotalEntries: all }) {
  if (link !== "resync" || !total) return null;
  const percent = Math.min(100, Math.floor((100 * done) / total));
  // of the first moments nothing can be concluded for the rest
  const left = leftS === null || leftS === undefined || percent < 1 ? "" : `, ${duration(leftS)} left`;
  return h("div", {}, h("progress", { value: done, max: total, "aria-label": "Resync" }, `${percent} %`),
    h("div", {}, `${percent} % of ${bytes(total)}${left}`), all ? h("div", { class: "hint" }, `${number(entries)} of ${number(all)} entries`) : "");
}
