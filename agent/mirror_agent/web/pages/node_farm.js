// The console of a farm's node: this node to be managed, the others as they say of themselves. Every node has its own.

import { ask } from "./dialog.js";
import { h, part, say } from "./dom.js";
import { live } from "./live.js";
import { configurationPart } from "./node_configuration.js";
import { logPart } from "./node_log.js";
import { checkersOf } from "./node_manage.js";
import { fact } from "./node_view.js";
import { badge, roleBadge } from "./words.js";

const DRAINED = "New clients are sent to the other nodes first; then the application stops.";
const ACTIONS = [
  { word: "restart", title: "Restart application", effects: [DRAINED, "It starts again and takes clients once it is healthy."], when: (status) => status.application.state === "running" || "The application does not run here." },
  { word: "start", title: "Start", effects: ["The application starts here and takes clients once it is healthy."], when: (status) => status.role === "STOP" || "The module runs." },
  { word: "stop", title: "Stop", danger: true, effects: [DRAINED, "It stays stopped until somebody starts it."], when: (status) => status.role !== "STOP" || "The module is stopped." },
  { word: "checkers-off", title: "Checkers off", danger: true, effects: ["A failing application is not noticed by this node until they are switched on again."], when: (status) => status.checkersSwitch.on || "The checkers are off." },
  { word: "checkers-on", title: "Checkers on", effects: ["The checkers watch the application again."], when: (status) => !status.checkersSwitch.on || "The checkers are on." },
];

export function farmParts(me, api) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const done = part("div", {}, (message) => message && h("p", { class: "note good", role: "status" }, message));
  const summary = part("section", { class: "card summary", "aria-label": "Summary" }, summaryOf);
  const others = part("section", { class: "cards", "aria-label": "The other nodes" }, (told) => told.map(otherCard));
  const actions = part("section", { class: "card", "aria-label": "Actions" }, (status) => [h("h2", {}, `Actions on node ${me.node}`), buttons(status)]);
  const checkers = part("section", { class: "card", "aria-label": "Checkers" }, checkersOf);
  const configuration = configurationPart(me.node, api);
  const log = logPart(me.node, api);
  const reader = live((signal) => api.get("status", { signal }), show, (error) => note.show(error?.message ?? ""), 1000);

  function show(status) {
    summary.show(status);
    others.show(status.others);
    actions.show(status);
    checkers.show(status.checkers, status.checkersSwitch);
  }

  function buttons(status) {
    return h("div", { class: "buttons wrap" }, ACTIONS.map((action) => {
      const why = me.role === "Monitor" ? "This needs the role Control." : action.when(status) === true ? null : action.when(status);
      return h("div", {},
        h("button", { type: "button", id: `act-${action.word}`, class: action.danger ? "danger" : "", disabled: Boolean(why),
          "aria-describedby": why ? `why-${action.word}` : null, onclick: () => order(action) }, action.title),
        why && h("p", { class: "hint", id: `why-${action.word}` }, why));
    }));
  }

  async function order(action) {
    const foreseen = await api.get(`dry-run/${action.word}`).then((answer) => answer.effects, () => []);
    const reason = await ask({ title: `${action.title} on node ${me.node}?`, effects: [...action.effects, ...foreseen], action: action.title,
      danger: action.danger, confirm: action.danger ? me.cluster : null });
    if (reason === null) return;
    try {
      const outcome = await api.act(action.word, { reason, confirm: action.danger ? me.cluster : "" });
      done.show(`${action.title} on node ${me.node}: ${outcome.message || outcome.status}`);
      say(`${action.title}: ${outcome.status}`);
      note.show("");
    } catch (error) {
      done.show("");
      note.show(error.message);
    }
    reader.now();
  }

  reader.enter();
  log.enter();
  return h("div", {}, h("h1", { tabindex: "-1" }, `Cluster ${me.cluster}`), note.element, done.element, summary.element, others.element,
    actions.element, checkers.element, configuration.element, log.element);
}

function summaryOf(status) {
  const serving = [status, ...status.others].filter((node) => (node === status ? status.probe.ok : node.serves)).length;
  return [
    h("h2", {}, `Node ${status.node} (this one) `, roleBadge(status.role, status.phase)),
    h("p", { class: "big" }, badge(status.probe.ok ? "good" : "warn", status.probe.ok ? "takes clients" : "takes no clients"), " ", status.sentence, " ", h("code", {}, status.rule)),
    h("dl", {},
      fact("Serving now", `${serving} of ${status.others.length + 1} nodes, as far as this one knows`),
      fact("Application", status.application.state),
      fact("Recent failures", status.application.restartsInWindow),
      status.application.error ? fact("Last error", status.application.error) : null),
  ];
}

function otherCard(other) {
  return h("article", { class: `card node${other.serves ? " serving" : ""}`, "aria-label": `Node ${other.node}` },
    h("h2", {}, `Node ${other.node} `, other.alive ? roleBadge(other.role, other.phase) : badge("bad", other.role ? `silent, was ${other.role}` : "silent")),
    h("p", {}, other.sentence),
    h("dl", {}, fact("Its own console", `https://${other.address}:9453`)));
}
