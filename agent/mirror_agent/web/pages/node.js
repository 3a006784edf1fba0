// One node: what it is, what its peer says, what it would do, what it may be asked to do, and its log.

import { ask } from "./dialog.js";
import { h, part, say, scroll } from "./dom.js";
import { live } from "./live.js";
import { act, get } from "./node_api.js";
import { ACTIONS, refusal } from "./node_actions.js";
import { badge, bytes, duration, number, roleBadge } from "./words.js";

const LINKS = { live: ["good", "replicating"], resync: ["busy", "resynchronising"], connecting: ["warn", "no replica"], lost: ["bad", "link lost"] };
const LOG_KEPT = 500;

let me = null;

async function enter() {
  try {
    me = await get("me");
    open();
  } catch (error) {
    const words = error.status === 401
      ? ["This node wants a client certificate.", "Ask an administrator of the control plane for a credential link, import the file behind it into the browser, and load this page again."]
      : [error.message];
    main(h("div", { class: "card narrow" }, h("h1", { tabindex: "-1" }, "No access"), words.map((word) => h("p", {}, word)),
      h("p", {}, h("a", { href: "/mosaic" }, "The test page"), " is open to everybody."),
      h("button", { type: "button", onclick: enter }, "Try again")));
  }
}

function main(element) {
  document.getElementById("main").replaceChildren(element);
  element.querySelector("h1")?.focus({ preventScroll: true });
}

function open() {
  document.title = `Node ${me.node} – ${me.cluster}`;
  document.getElementById("bar").replaceChildren(
    h("span", { class: "brand" }, h("img", { src: "/console/mark.svg", alt: "", width: 26, height: 26 }), `Cluster ${me.cluster}, node ${me.node}`),
    h("div", { class: "who" }, h("span", {}, `${me.name} (${me.role})`)));

  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const done = part("div", {}, (message) => message && h("p", { class: "note good", role: "status" }, message));
  const summary = part("section", { class: "card summary", "aria-label": "Summary" }, summaryOf);
  const pair = part("section", { class: "pair", "aria-label": "Nodes" }, pairOf);
  const actions = part("section", { class: "card", "aria-label": "Actions" }, (offered) => [
    h("h2", {}, `Actions on node ${me.node}`),
    h("div", { class: "buttons wrap" }, offered.map(([action, why]) => h("div", {},
      h("button", { type: "button", id: `act-${action.word}`, class: action.danger ? "danger" : "", disabled: Boolean(why),
        "aria-describedby": why ? `why-${action.word}` : null, onclick: () => order(action) }, action.title),
      why && h("p", { class: "hint", id: `why-${action.word}` }, why)))),
  ]);
  const drills = part("section", { class: "card", "aria-label": "What it would do" }, drillOf);
  const checkers = part("section", { class: "card", "aria-label": "Checkers" }, checkersOf);
  const log = logPart();

  const reader = live(
    async (signal) => [await get("status", { signal }), await get("drill", { signal })],
    ([status, drill]) => {
      const seconds = status.exposedForS === null ? null : Math.floor(status.exposedForS);
      summary.show(status.role, status.sentence, status.rule, status.inSync, seconds, status.witness, status.trusted, status.failover.on);
      pair.show(status);
      actions.show(ACTIONS.map((action) => [action, refusal(action, me, status, drill.permissions)]));
      drills.show(drill.permissions);
      checkers.show(status.checkers, status.checkersSwitch.on);
    },
    (error) => note.show(error?.message ?? ""),
    1000,
  );

  async function order(action) {
    const reason = await ask({ title: `${action.title}?`, effects: action.effects, action: action.title, danger: action.danger, confirm: action.danger ? me.cluster : null });
    if (reason === null) return;
    try {
      const outcome = await act(action.word, { reason, confirm: action.danger ? me.cluster : "" });
      done.show(`${action.title}: ${outcome.message || outcome.status}`);
      say(`${action.title}: ${outcome.status}`);
      note.show("");
    } catch (error) {
      done.show("");
      note.show(error.message);
    }
    reader.now();
  }

  main(h("div", {}, h("h1", { tabindex: "-1" }, `Node ${me.node}`), note.element, done.element, summary.element, pair.element,
    actions.element, checkers.element, drills.element, log.element));
  reader.enter();
  log.enter();
}

function summaryOf(role, sentence, rule, inSync, exposedS, witness, trusted, failover) {
  const exposed = exposedS !== null;
  return [
    h("p", { class: "big" }, exposed ? badge("warn", "exposed") : inSync.length === 2 ? badge("good", "in sync") : badge("none", "not serving"), " ",
      sentence, " ", rule && h("code", {}, rule), exposed && h("strong", {}, ` Exposed for ${duration(exposedS)}.`)),
    h("dl", {},
      fact("Witness record", witness.epoch === null ? "not read yet" : `epoch ${witness.epoch}, primary ${witness.primary || "nobody"}, in sync: ${witness.inSync.join(", ") || "nobody"}`),
      witness.failure ? fact("Witness", badge("warn", witness.failure)) : null,
      fact("Failover", failover ? "on" : badge("warn", "switched off")),
      trusted ? null : fact("Memory", badge("warn", "this machine restarted without an orderly stop"))),
  ];
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function pairOf(status) {
  const { mirror, peer } = status;
  const serving = status.role === "PRIM" || status.role === "ALONE";
  const [kind, word] = LINKS[mirror.link] ?? ["none", "no replication"];
  const total = mirror.resyncTotalBytes;
  return [
    h("article", { class: `card node${serving ? " serving" : ""}`, "aria-label": `Node ${status.node}` },
      h("h2", {}, `Node ${status.node} (this one) `, roleBadge(status.role, status.phase)),
      h("dl", {}, fact("Epoch", status.epoch), fact("Application", status.application.state), fact("Probe", status.probe.ok ? "OK" : status.probe.reason || "not serving"),
        fact("Restarts in 24 h", status.application.restartsInWindow), status.application.error ? fact("Error", status.application.error) : null)),
    h("div", { class: `link ${kind}` }, h("div", { class: "arrow", "aria-hidden": "true" }, mirror.link === "live" || mirror.link === "resync" ? (serving ? "→" : "←") : "✕"),
      badge(kind, word),
      total ? h("div", {}, h("progress", { value: mirror.resyncDoneBytes, max: total, "aria-label": "Resync" }), ` ${Math.floor((100 * mirror.resyncDoneBytes) / total)} % of ${bytes(total)}`) : null,
      h("p", { class: "hint" }, `${bytes(mirror.replicatedBytes)} in ${number(mirror.operations)} operations`), mirror.error ? h("p", { class: "hint" }, mirror.error) : ""),
    h("article", { class: `card node${["PRIM", "ALONE"].includes(peer.role) && peer.alive ? " serving" : ""}`, "aria-label": `Node ${peer.name}` },
      h("h2", {}, `Node ${peer.name} (peer) `, peer.alive ? roleBadge(peer.role, peer.phase) : badge("bad", `silent, was ${peer.role}`)),
      h("dl", {}, fact("Epoch", peer.epoch), Object.entries(peer.paths).map(([address, state]) => fact(`Heartbeat over ${address}`, state)))),
  ];
}

function drillOf(permissions) {
  return [
    h("h2", {}, "What this node would do"),
    h("p", { class: "hint" }, "Asked of the decision core itself; nothing is done."),
    h("dl", {}, permissions.map((entry) => fact(`${entry.act}${entry.supposed ? ` (if ${entry.supposed})` : ""}`,
      [badge(entry.allowed ? "good" : "none", entry.allowed ? "yes" : "no"), " ", entry.sentence, " ", entry.rule ? h("code", {}, entry.rule) : ""]))),
  ];
}

function checkersOf(checkers, on) {
  return [
    h("h2", {}, "Checkers ", on ? "" : badge("warn", "switched off")),
    checkers.length === 0 ? h("p", { class: "hint" }, "There are none on this node now.") : h("div", scroll("State of the checkers"), h("table", {},
      h("thead", {}, h("tr", {}, ["Checker", "State", "Message"].map((word) => h("th", { scope: "col" }, word)))),
      h("tbody", {}, checkers.map((checker) => h("tr", {}, h("th", { scope: "row" }, checker.name),
        h("td", {}, checker.healthy === null ? badge("none", "not run") : checker.healthy ? badge("good", "healthy") : badge("bad", `failed ${checker.consecutiveFailures}×`)),
        h("td", {}, checker.message)))))),
  ];
}

/** The node's events, newest first; following until that is switched off. */
function logPart() {
  let after = 0;
  let events = [];
  const follow = h("input", { type: "checkbox", id: "follow", checked: true });
  const list = part("ol", { class: "story" }, (shown) => shown.map((event) => {
    const { seq, utc, kind, ...rest } = event;
    return h("li", {}, h("time", { datetime: utc }, new Date(utc).toLocaleTimeString()), h("strong", {}, kind),
      h("span", {}, Object.entries(rest).map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`).join("  ")));
  }));
  const reader = live(
    async (signal) => (follow.checked ? get(`events?after=${after}&limit=200`, { signal }) : null),
    (page) => {
      if (page === null || page.events.length === 0) return;
      after = page.next;
      events = [...page.events.reverse(), ...events].slice(0, LOG_KEPT);
      list.show(events);
      if (page.events.length === 200) reader.now();
    },
    () => {},
    1500,
  );
  const element = h("section", { class: "card log", "aria-label": "Log" }, h("h2", {}, "Log "), h("label", { for: "follow" }, follow, " follow"), list.element);
  return { element, enter: reader.enter };
}

enter();
