// An operation: per cent, steps, and the error with its remedy.

import { h } from "../dom.js";
import { badge } from "../words.js";

const WORDS = { NotStarted: "not begun", Running: "running", Succeeded: "done", Failed: "failed", Canceled: "cancelled" };
const KINDS = { NotStarted: "none", Running: "busy", Succeeded: "good", Failed: "bad", Canceled: "none" };

export function progressOf(operation) {
  const name = operation.action ?? operation.kind;
  return h("div", { class: "card" },
    h("h2", {}, `Operation: ${name} `, badge(KINDS[operation.status] ?? "none", WORDS[operation.status] ?? operation.status)),
    h("progress", { value: operation.percentComplete, max: 100, "aria-label": `${name} is at ${operation.percentComplete} %` }),
    ` ${operation.percentComplete} %`,
    operation.error && h("p", { class: "note bad", role: "alert" }, operation.error.message, " ", h("code", {}, operation.error.code)),
    h("ol", { class: "steps" }, operation.steps.map((step) => h("li", {},
      badge(KINDS[step.status] ?? "none", WORDS[step.status] ?? step.status), h("span", {}, step.title || step.name), step.message ? h("span", { class: "hint" }, step.message) : ""))),
    h("p", { class: "hint" }, `Asked for by ${operation.requestedBy}${operation.reason ? `: ${operation.reason}` : ""}`));
}
