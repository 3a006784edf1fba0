// What happened, newest first: changes of roles and verdicts, what people did and why, alerts, repairs, what Azure said.

import { h } from "../dom.js";
import { badge, when } from "../words.js";

// Who or what it was; only an alert that fires, and what a person was refused, is no plain news.
const KINDS = { role: ["none", "node"], verdict: ["none", "audit"], operator: ["person", "person"], alert: ["bad", "alert"], repair: ["busy", "repair"], platform: ["none", "Azure"] };
const OVER = /^Alert .* (is resolved|is acknowledged)/;
const RESOURCE = /^Microsoft\.Resources\.Resource(Write|Delete|Action)(Success|Failure|Cancel)$/;
const VERBS = { Write: "written", Delete: "deleted", Action: "acted on" };
const ENDS = { Success: "", Failure: ", failed", Cancel: ", cancelled" };
// So many in a row become one line that can be opened: a new cluster is a dozen resources.
const MANY = 3;

export function storyOf(lines, next, more) {
  return [
    h("h2", {}, "What happened"),
    h("ol", { class: "story" }, runs(lines).map((run) => (run.length < MANY ? run.map(lineOf) : together(run)))),
    lines.length === 0 && h("p", { class: "hint" }, "Nothing yet."),
    next && h("button", { type: "button", id: "older", onclick: () => more(next) }, "Show older"),
  ];
}

/** Neighbours that are all about Azure's resources belong together; every other line stands alone. */
function runs(lines) {
  const found = [];
  for (const line of lines) {
    const last = found.at(-1);
    if (last && RESOURCE.test(last[0].title) && RESOURCE.test(line.title)) last.push(line);
    else found.push([line]);
  }
  return found;
}

function together(run) {
  const list = h("ul", { class: "plain" }, run.map((line) => h("li", {}, when(line.at), " ", ...said(line))));
  return h("li", {}, when(run[0].at), badge(...KINDS.platform), h("details", {}, h("summary", {}, `${run.length} changes of Azure resources`), list));
}

const lineOf = (line) => h("li", {}, when(line.at), badge(...kindOf(line)), h("div", {}, ...said(line)));

function kindOf(line) {
  if (line.kind === "alert" && OVER.test(line.title)) return ["none", "alert"];
  return KINDS[line.kind] ?? ["none", line.kind];
}

function said(line) {
  const resource = RESOURCE.exec(line.title);
  if (!resource) return [h("strong", {}, line.title), line.detail ? ` ${line.detail}` : "", line.rule ? h("span", {}, " ", h("code", {}, line.rule)) : ""];
  const [name, type] = line.detail.split("/").reverse();
  return [h("strong", {}, `${name} ${VERBS[resource[1]]}${ENDS[resource[2]]}`), type ? ` (${type})` : ""];
}
