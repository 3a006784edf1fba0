// One node to be managed: what it may be asked, its copy, its checkers, what it would do, how it is configured, its log.

import { ask } from "./dialog.js";
import { h, part, say, scroll } from "./dom.js";
import { ACTIONS, COPY_ACTIONS, refusal } from "./node_actions.js";
import { configurationPart } from "./node_configuration.js";
import { copiesOf, quarantinePart } from "./node_copies.js";
import { logPart } from "./node_log.js";
import { badge } from "./words.js";

export function managePart({ me, node, own, api, again }) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const done = part("div", {}, (message) => message && h("p", { class: "note good", role: "status" }, message));
  const actions = part("section", { class: "card", "aria-label": "Actions" }, (offered) => [h("h2", {}, `Actions on node ${node}`), buttons(offered)]);
  const copies = part("section", { class: "card", "aria-label": "The two copies" }, (status, offered) => [copiesOf(status), buttons(offered)]);
  const checkers = part("section", { class: "card", "aria-label": "Checkers" }, checkersOf);
  const drills = part("section", { class: "card", "aria-label": "What it would do" }, (permissions) => drillOf(node, permissions));
  const quarantine = quarantinePart(node, api);
  const configuration = configurationPart(node, api);
  const log = logPart(node, api);

  /** The node as it sees itself, or null while it does not answer. */
  function show(view, away) {
    const offered = (list) => list.map((action) => [action, view ? refusal(action, me, view.status, view.drill.permissions) : away || "The node has not answered yet."]);
    actions.show(offered(ACTIONS));
    copies.show(view?.status ?? null, offered(COPY_ACTIONS));
    if (!view) return;
    checkers.show(view.status.checkers, view.status.checkersSwitch);
    drills.show(view.drill.permissions);
  }

  function buttons(offered) {
    return h("div", { class: "buttons wrap" }, offered.map(([action, why]) => h("div", {},
      h("button", { type: "button", id: `act-${action.word}`, class: action.danger ? "danger" : "", disabled: Boolean(why),
        "aria-describedby": why ? `why-${action.word}` : null, onclick: () => order(action) }, action.title),
      why && h("p", { class: "hint", id: `why-${action.word}` }, why))));
  }

  async function order(action) {
    const foreseen = await api.get(`dry-run/${action.word}`).then((answer) => answer.effects, () => []);
    const title = `${action.title} on node ${node}?`;
    const reason = await ask({ title, effects: [...action.effects, ...foreseen], action: action.title, danger: action.danger, confirm: action.danger ? me.cluster : null });
    if (reason === null) return;
    try {
      const outcome = await api.act(action.word, { reason, confirm: action.danger ? me.cluster : "" });
      done.show(`${action.title} on node ${node}: ${outcome.message || outcome.status}`);
      say(`${action.title}: ${outcome.status}`);
      note.show("");
    } catch (error) {
      done.show("");
      note.show(error.message);
    }
    again();
  }

  const element = h("div", {}, note.element, done.element, actions.element, copies.element, quarantine.element, checkers.element,
    drills.element, configuration.element, log.element);
  return {
    own,
    element,
    show,
    enter() { quarantine.enter(); log.enter(); },
    leave() { quarantine.leave(); log.leave(); },
  };
}

function drillOf(node, permissions) {
  return [
    h("h2", {}, `What node ${node} would do`),
    h("p", { class: "hint" }, "Asked of the decision core itself; nothing is done."),
    h("dl", {}, permissions.map((entry) => h("div", {}, h("dt", {}, `${entry.act}${entry.supposed ? ` (if ${entry.supposed})` : ""}`),
      h("dd", {}, badge(entry.allowed ? "good" : "none", entry.allowed ? "yes" : "no"), " ", entry.sentence, " ", entry.rule ? h("code", {}, entry.rule) : "")))),
  ];
}

export function checkersOf(checkers, setting) {
  return [
    h("h2", {}, "Checkers ", setting.on ? "" : badge("warn", "switched off")),
    setting.on ? "" : h("p", { class: "hint" }, `By ${setting.who}${setting.why ? `: ${setting.why}` : ""}.`),
    checkers.length === 0 ? h("p", { class: "hint" }, "There are none on this node now.") : h("div", scroll("State of the checkers"), h("table", {},
      h("thead", {}, h("tr", {}, ["Checker", "State", "Message"].map((word) => h("th", { scope: "col" }, word)))),
      h("tbody", {}, checkers.map((checker) => h("tr", {}, h("th", { scope: "row" }, checker.name),
        h("td", {}, checker.healthy === null ? badge("none", "not run") : checker.healthy ? badge("good", "healthy") : badge("bad", `failed ${checker.consecutiveFailures}×`)),
        h("td", {}, checker.message)))))),
  ];
}
