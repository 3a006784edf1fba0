// One cluster: who serves, is the data safe, what happened, what can be done now.

import { change, follow, get } from "../api.js";
import { ask } from "../dialog.js";
import { h, part, say, scroll } from "../dom.js";
import { live } from "../live.js";
import { badge, bytes, duration, LINKS, number, resyncBar, roleBadge, safetyBadge, severityBadge, verdictBadge, when } from "../words.js";
import { accessPart } from "./access.js";
import { adviceOf } from "./advice.js";
import { actionsOf } from "./cluster_actions.js";
import { storyOf } from "./story.js";
import { stripsPart } from "./strips.js";
import { progressOf } from "./progress.js";

// What happens is to be seen within three seconds; unchanged, a look costs a 304.
const PERIOD_MS = 1000;

export function clusterPage({ name, may }) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const done = part("div", {}, (message) => message && h("p", { class: "note good", role: "status" }, message));
  const summary = part("section", { class: "card summary", "aria-label": "Summary" }, summaryOf);
  const operation = part("section", { "aria-label": "Operation" }, (found) => found && progressOf(found));
  const alerts = part("section", { "aria-label": "Alerts" }, alertsOf);
  const pair = part("section", { class: "pair", "aria-label": "Nodes" }, pairOf);
  const actions = part("section", { class: "card", "aria-label": "Actions" }, (view) => actionsPart(view));
  const checks = part("section", { class: "card", "aria-label": "Checkers" }, checkersOf);
  const story = part("section", { class: "card", "aria-label": "What happened" }, storyOf);
  const strips = stripsPart(name);
  const access = may("Admin") ? accessPart(name) : null;
  let older = [];
  let lines = { value: [] };
  let seen = null; // what came last: unchanged, it does not come again, and yet something may have happened since

  const reader = live((signal) => get(`clusters/${name}/overview`, {}, { signal }), show, (error) => {
    note.show(error?.message ?? "");
    if (error?.status === 404) gone();
  }, PERIOD_MS);
  const slow = live((signal) => get(`clusters/${name}/history`, {}, { signal }), (page) => { lines = page; tell(); if (seen) show(seen); }, () => {}, 5000);

  function show(view) {
    const { cluster, reports } = view;
    seen = view;
    summary.show(cluster.kind, view.safety, view.verdict, cluster.virtualIp, cluster.provisioningState, cluster.location, cluster.network.rules, view.pausedBy, view.remediation, view.witness, tick(view.safety.since, view.clock), lines.value[0] ?? null, adviceOf(view));
    operation.show(view.operation);
    alerts.show(view.alerts);
    const nodes = cluster.nodes.map((entry) => nodeFacts(view, entry.name));
    if (cluster.kind === "farm") pair.show(nodes, null, cluster.virtualIp, view.safety.up);
    else pair.show(nodes, linkFacts(view), cluster.virtualIp, view.safety.serving);
    actions.show(actionsOf(view, may), cluster.etag);
    const restarts = nodes.map(({ node }) => `node ${node} ${reports[node]?.heartbeat.restartsInWindow ?? 0}`);
    checks.show(nodes.flatMap(({ node }) => checkerFacts(node, reports[node])), restarts.join(", "), cluster.application);
  }

  function tell() {
    const all = [...lines.value, ...older.flatMap((page) => page.value)];
    story.show(all, (older.at(-1) ?? lines).nextLink ?? null, more);
  }

  async function more(link) {
    older.push(await follow(link));
    tell();
  }

  function gone() {
    leave();
    element.replaceChildren(h("p", {}, `There is no cluster ${name} (any more). `, h("a", { href: "#/" }, "To the fleet")));
  }

  function leave() {
    for (const asking of [reader, slow, strips, access]) asking?.leave();
  }

  function actionsPart(offered) {
    return [
      h("h2", {}, "Actions"),
      h("div", { class: "buttons wrap" }, offered.map((action) => h("div", {},
        h("button", { type: "button", id: `act-${action.word}`, class: action.danger ? "danger" : "", disabled: Boolean(action.refusal),
          "aria-describedby": action.refusal ? `why-${action.word}` : null, onclick: () => act(action) }, action.title),
        action.refusal && h("p", { class: "hint", id: `why-${action.word}` }, action.refusal),
      ))),
    ];
  }

  async function act(action) {
    const reason = await ask({ title: `${action.title} ${name}?`, effects: action.effects, action: action.title, danger: action.danger, confirm: action.danger ? name : null });
    if (reason === null) return;
    try {
      if (action.word === "delete") await change("DELETE", `clusters/${name}`, null, reason ? { "Mirrorplane-Reason": encodeReason(reason) } : {});
      else await change("POST", `clusters/${name}:${action.word}`, { reason });
      done.show(`${action.title}: accepted.`);
      say(`${action.title}: accepted`);
      note.show("");
    } catch (error) {
      done.show("");
      note.show(error.message);
    }
    reader.now();
    slow.now();
  }

  const element = h("div", {}, note.element, done.element, summary.element, operation.element, alerts.element, pair.element,
    actions.element, strips.element, checks.element, access?.element ?? "", story.element);
  return [`Cluster ${name}`, {
    element,
    enter() { reader.enter(); slow.enter(); strips.enter(); access?.enter(); },
    leave,
  }];
}

/** Header values are bytes; what is not ASCII would be refused by the browser. */
const encodeReason = (text) => text.normalize("NFKD").replace(/[^\x20-\x7e]/g, "");

const tick = (since, clock) => (since ? Math.floor((new Date(clock) - new Date(since)) / 1000) : null);

function summaryOf(kind, safety, verdict, virtualIp, state, location, rules, pausedBy, remediation, witness, exposedS, last, advice) {
  const address = virtualIp.fqdn ?? virtualIp.address ?? "not yet known";
  const ports = rules.map((rule) => `${rule.name} ${rule.frontendPort}`).join(", ");
  return [
    h("p", { class: "big" }, safetyBadge(safety.state), " ", safety.sentence,
      exposedS !== null && h("strong", {}, ` Exposed for ${duration(exposedS)}.`)),
    h("p", {}, h("strong", {}, "To do: "), advice),
    last && h("p", {}, h("strong", {}, "Last: "), `${last.title}, `, when(last.at)),
    h("dl", {},
      fact("Virtual IP", address),
      fact("Serves", safety.serving ? `node ${safety.serving}, epoch ${safety.epoch}` : safety.up.length ? `nodes ${safety.up.join(", ")}` : "nobody, as far as is known"),
      kind === "farm" ? null : fact("Safety record", witness ? `epoch ${witness.epoch}, primary ${witness.primary || "nobody"}, in sync: ${(witness.inSync.match(/[ab]/g) ?? ["nobody"]).join(", ")}` : "none yet"),
      fact("Verdict", verdict ? [verdictBadge(verdict.state), " ", verdict.sentence, " ", h("code", {}, verdict.rule)] : "no audit yet"),
      fact("Resources", `${state} in ${location}`),
      fact("Rules", ports || "none beside the console"),
      pausedBy.length ? fact("Repairs pause", pausedBy.join("; ")) : null,
      remediation ? fact("Repair", remediation) : null),
  ];
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function alertsOf(alerts) {
  const shown = alerts.filter((alert) => alert.state !== "resolved" && alert.state !== "pending");
  return shown.map((alert) => h("p", { class: `note ${alert.severity === "critical" ? "bad" : "warn"}` },
    severityBadge(alert.severity), ` ${alert.sentence || alert.meaning} `, h("a", { href: "#/alerts" }, alert.state)));
}

function nodeFacts(view, node) {
  const shown = view.cluster.nodes.find((entry) => entry.name === node);
  const report = view.reports[node];
  const beat = report?.heartbeat;
  return {
    node,
    vm: shown.vmName,
    address: shown.publicAddress ?? shown.privateAddress,
    verdict: view.nodeVerdicts[node]?.state ?? null,
    verdictSentence: view.nodeVerdicts[node]?.sentence ?? "",
    fresh: report?.fresh ?? false,
    role: beat?.role ?? null,
    phase: beat?.phase ?? null,
    application: beat?.application ?? null,
    rule: beat?.rule ?? "",
    sentence: beat?.sentence ?? "no heartbeat yet",
    probeOk: beat?.probeOk ?? false,
    serving: view.safety.serving === node || view.safety.up.includes(node),
    heardAt: beat?.receivedAt ?? null,
    silentS: report && !report.fresh ? tick(beat.receivedAt, view.clock) : null,
    agent: report?.agentVersion ?? null,
    failover: beat?.failover ?? null,
    mirrorError: beat?.mirror?.error ?? null,
  };
}

function linkFacts(view) {
  const source = view.reports[view.safety.serving ?? "a"]?.heartbeat.mirror ?? null;
  return source && {
    state: view.safety.state,
    from: view.safety.serving,
    link: source.link,
    operations: source.operations,
    bytes: source.replicatedBytes,
    inFlight: source.inFlightBytes,
    p50: source.ackLatencyMsP50,
    p99: source.ackLatencyMsP99,
    bytesPerS: source.replicatedBytesPerS,
    operationsPerS: source.operationsPerS,
    resyncDoneBytes: source.resyncDoneBytes,
    resyncTotalBytes: source.resyncTotalBytes,
    resyncRemainingS: source.resyncRemainingS,
    resyncDoneEntries: source.resyncDoneEntries,
    resyncTotalEntries: source.resyncTotalEntries,
  };
}

/** A mirror's pair with the link between them; of a farm, where `serving` is a list, the cards of all nodes. */
function pairOf(nodes, link, virtualIp, serving) {
  const address = virtualIp.fqdn ?? virtualIp.address;
  if (Array.isArray(serving)) {
    const leads = serving.length ? `leads to nodes ${serving.join(", ")}` : "leads nowhere now";
    return [address && h("div", { class: `entry farm${serving.length ? "" : " nobody"}` }, `Virtual IP ${address} ${leads}`),
      h("div", { class: "cards" }, nodes.map(nodeCard))];
  }
  const [a, b] = nodes;
  const entry = address && h("div", { class: `entry ${serving ?? "nobody"}` }, `Virtual IP ${address}`,
    serving ? h("div", { class: "arrow", "aria-hidden": "true" }, "→") : h("div", {}, "leads nowhere now"));
  return [entry, nodeCard(a), linkCard(link), nodeCard(b)];
}

function nodeCard(node) {
  return h("article", { class: `card node${node.serving ? " serving" : ""}`, "aria-label": `Node ${node.node}` },
    h("h2", {}, `Node ${node.node} `, node.fresh ? roleBadge(node.role, node.phase) : badge(node.role ? "bad" : "none", node.role ? `silent, was ${node.role}` : "no word")),
    node.serving && h("p", { class: "vip" }, "The virtual IP leads here"),
    h("p", {}, node.sentence, " ", node.rule && h("code", {}, node.rule)),
    h("dl", {},
      fact("Machine", `${node.vm} (${node.address ?? "no address"})`),
      fact("Application", node.application ?? "–"),
      fact("Probe", node.fresh ? (node.probeOk ? "OK" : "not serving") : "–"),
      fact("Verdict", node.verdict ? [verdictBadge(node.verdict), " ", node.verdictSentence] : "–"),
      node.silentS !== null ? fact("Silent for", duration(node.silentS)) : fact("Last heartbeat", node.heardAt ? "fresh" : "–"),
      node.failover === false ? fact("Failover", badge("warn", "switched off")) : null,
      node.mirrorError ? fact("Mirror", node.mirrorError) : null,
      node.agent ? fact("Agent", node.agent) : null));
}

function linkCard(link) {
  if (!link) return h("div", { class: "link" }, badge("none", "no replication"));
  const [kind, word] = LINKS[link.link] ?? ["none", link.link];
  const flows = ["live", "resync"].includes(link.link);
  const lines = [
    flows && `${bytes(link.bytesPerS)}/s, ${number(Math.round(link.operationsPerS))} operations/s`,
    typeof link.p50 === "number" && `acknowledged in ${link.p50.toFixed(1)} ms`,
    typeof link.p99 === "number" && `99 % within ${link.p99.toFixed(1)} ms`,
    flows && (link.inFlight ? `lag ${bytes(link.inFlight)}` : "no lag"),
    `${bytes(link.bytes)} in ${number(link.operations)} operations`,
  ];
  return h("div", { class: `link ${kind}` },
    h("div", { class: "arrow", "aria-hidden": "true" }, flows ? (link.from === "b" ? "←" : "→") : "✕"),
    badge(kind, word),
    resyncBar(link),
    h("ul", { class: "plain hint" }, lines.filter(Boolean).map((line) => h("li", {}, line))));
}

const checkerFacts = (node, report) => (report?.fresh ? report.heartbeat.checkers.map((checker) => ({ node, ...checker })) : []);

function checkersOf(checkers, restarts, { restartLimit, restartWindowS }) {
  return [
    h("h2", {}, "Checkers"),
    checkers.length === 0
      ? h("p", { class: "hint" }, "No checker has reported.")
      : h("div", scroll("State of the checkers"), h("table", {}, h("thead", {}, h("tr", {}, ["Checker", "Node", "State", "Message"].map((word) => h("th", { scope: "col" }, word)))),
          h("tbody", {}, checkers.map((checker) => h("tr", {}, h("th", { scope: "row" }, checker.name), h("td", {}, checker.node),
            h("td", {}, checker.healthy === null ? badge("none", "not run") : checker.healthy ? badge("good", "healthy") : badge("bad", `failed ${checker.consecutiveFailures}×`)),
            h("td", {}, checker.message)))))),
    h("p", { class: "hint" }, `Failures of the application within ${duration(restartWindowS)}: ${restarts}. It is restarted ${restartLimit} times; at the next failure the node gives up instead of looping.`),
  ];
}
