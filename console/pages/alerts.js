// Alerts, worst first, with their acknowledgement; silences with who, why and until when.

import { change, get } from "../api.js";
import { ask } from "../dialog.js";
import { h, part, scroll, wide } from "../dom.js";
import { live } from "../live.js";
import { badge, severityBadge, when } from "../words.js";

const STATES = { pending: "none", firing: "bad", acknowledged: "warn", resolved: "good" };
const HOURS = [1, 4, 24, 168];

export function alertsPage({ may }) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const open = part("section", { class: "card", "aria-label": "Open alerts" }, openOf);
  const silences = part("section", { class: "card", "aria-label": "Silences" }, silencesOf);
  const reader = live(
    async (signal) => [await get("alerts", { top: 100 }, { signal }), await get("silences", {}, { signal })],
    ([alerts, quiet]) => { open.show(alerts.value); silences.show(quiet.value); },
    (error) => note.show(error?.message ?? ""),
    4000,
  );

  async function tried(work) {
    try { await work(); note.show(""); } catch (error) { note.show(error.message); }
    reader.now();
  }

  function openOf(alerts) {
    return [
      h("h2", {}, "Open alerts"),
      alerts.length === 0 ? h("p", {}, "None.") : h("div", scroll("Alerts"), wide(["Severity", "State", "Cluster", "What", "Since", ""], alerts.map(row))),
    ];
  }

  function row(alert) {
    const firing = alert.state === "firing";
    return h("tr", {},
      h("td", {}, severityBadge(alert.severity)),
      h("td", {}, badge(STATES[alert.state] ?? "none", alert.state), alert.mutedBy ? h("div", { class: "hint" }, `not told: ${alert.mutedBy}`) : ""),
      h("td", {}, alert.cluster ? h("a", { href: `#/clusters/${alert.cluster}` }, alert.cluster) : "all"),
      h("td", {}, h("strong", {}, alert.rule), " ", alert.subject, h("div", {}, alert.sentence || alert.meaning),
        alert.acknowledgedBy ? h("div", { class: "hint" }, `taken by ${alert.acknowledgedBy}${alert.note ? `: ${alert.note}` : ""}`) : ""),
      h("td", {}, when(alert.startedAt)),
      h("td", {}, firing && may("Control") ? h("button", { type: "button", id: `ack-${alert.id}`, onclick: () => acknowledge(alert) }, "Acknowledge") : ""));
  }

  async function acknowledge(alert) {
    const reason = await ask({ title: `Acknowledge ${alert.rule}?`, effects: ["It is not repeated any more; it stays open until its cause is gone."], action: "Acknowledge" });
    if (reason !== null) await tried(() => change("POST", `alerts/${alert.id}:acknowledge`, { note: reason }));
  }

  function silencesOf(list) {
    return [
      h("h2", {}, "Silences"),
      list.length === 0 ? h("p", {}, "None.") : h("ul", { class: "plain" }, list.map((silence) => h("li", {},
        badge(silence.active ? "warn" : "none", silence.active ? "active" : "not now"), " ",
        [silence.cluster && `cluster ${silence.cluster}`, silence.rule && `rule ${silence.rule}`, silence.subject && `subject ${silence.subject}`].filter(Boolean).join(", "),
        `: ${silence.reason} (${silence.createdBy}), until `, when(silence.until), " ",
        may("Control") ? h("button", { type: "button", id: `end-${silence.id}`, onclick: () => tried(() => change("DELETE", `silences/${silence.id}`)) }, "End") : ""))),
      may("Control") ? silenceForm() : "",
    ];
  }

  function silenceForm() {
    const cluster = h("input", { id: "quiet-cluster", required: true, autocomplete: "off" });
    const reason = h("input", { id: "quiet-reason", required: true, maxlength: 500 });
    const hours = h("select", { id: "quiet-hours" }, HOURS.map((count) => h("option", { value: count }, `${count} h`)));
    return h("form", { class: "tools", onsubmit: (event) => {
      event.preventDefault();
      const until = new Date(Date.now() + hours.value * 3600000).toISOString();
      tried(() => change("POST", "silences", { cluster: cluster.value, reason: reason.value, until }));
    } },
    h("label", { for: "quiet-cluster" }, "Cluster ", cluster), h("label", { for: "quiet-reason" }, "Why ", reason),
    h("label", { for: "quiet-hours" }, "For ", hours), h("button", { type: "submit" }, "Silence"));
  }

  const element = h("div", {}, note.element, open.element, silences.element);
  return ["Alerts", { element, enter: reader.enter, leave: reader.leave }];
}
