// Both nodes and what is between them, from what each of them says of itself.

import { h } from "./dom.js";
import { badge, bytes, duration, LINKS, number, resyncBar, roleBadge } from "./words.js";

const SERVING = ["PRIM", "ALONE"];
export const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

/** Who serves, is the data safe: from the serving node's own words if it can be asked, else from this one's. */
export function summaryOf(own, peer) {
  const told = [own, peer].find((status) => status && SERVING.includes(status.role)) ?? own;
  const { witness } = told;
  const exposedS = told.exposedForS === null ? null : Math.floor(told.exposedForS);
  const serves = SERVING.includes(told.role) && told.probe.ok;
  const state = exposedS !== null ? ["warn", "exposed"] : told.inSync.length === 2 && SERVING.includes(told.role) ? ["good", "in sync"] : ["none", "not serving"];
  return [
    h("p", { class: "big" }, badge(...state), " ", safetyOf(told, exposedS), exposedS !== null && h("strong", {}, ` Exposed for ${duration(exposedS)}.`)),
    h("p", {}, h("strong", {}, "To do: "), adviceOf(told, told === own ? peer : own, told === own ? own.peer : null)),
    h("dl", {},
      fact("Serves", serves ? `node ${told.node}, epoch ${told.epoch}` : "nobody, as far as this node knows"),
      fact("Decided by", [told.sentence, " ", told.rule ? h("code", {}, told.rule) : ""]),
      fact("Witness record", witness.epoch === null ? "not read yet" : `epoch ${witness.epoch}, primary ${witness.primary || "nobody"}, in sync: ${witness.inSync.join(", ") || "nobody"}`),
      witness.failure ? fact("Witness", badge("warn", witness.failure)) : null,
      fact("Failover", told.failover.on ? "on" : [badge("warn", "switched off"), ` by ${told.failover.who}${told.failover.why ? `: ${told.failover.why}` : ""}`]),
      told.trusted ? null : fact("Memory", badge("warn", "this machine restarted without an orderly stop"))),
  ];
}

/** In one sentence, from what is known of the serving node (or this one) and of the other, by itself or by its heartbeats. */
function adviceOf(told, other, heard) {
  const name = other?.node ?? heard?.name;
  const role = other?.role ?? heard?.role;
  if (!SERVING.includes(told.role)) {
    if (told.role === "STOP" && role === "STOP") return "Press Start: both nodes are stopped.";
    return told.role === "STOP" ? `Press Start: node ${told.node} is stopped.` : "See below what each node waits for.";
  }
  if (!told.failover.on) return "Switch failover on again when your work is done; until then nobody takes over.";
  if (told.exposedForS === null) return "Nothing.";
  if (told.mirror.link === "resync") return `Nothing: node ${name} is being brought up to date. Do not stop node ${told.node} before that is done.`;
  if (role === "STOP" && (other || heard.alive)) return `Press Start on node ${name}: it is stopped.`;
  if (other || heard?.alive) return `Wait: node ${name} is there and not in sync yet; it says below why.`;
  return `Bring node ${name} back: it is silent.`;
}

function safetyOf(told, exposedS) {
  if (!SERVING.includes(told.role)) return `Node ${told.node} does not serve (${told.role}).`;
  if (exposedS !== null) return `Only node ${told.node} has the newest writes; the other one is not in sync.`;
  return `Every acknowledged write is on both nodes; node ${told.node} ${told.probe.ok ? "serves" : "is primary"}.`;
}

export function pairOf(own, peer, away) {
  const other = peer ?? own.peer;
  const cards = { [own.node]: nodeCard(own, "this one"), [own.peer.name]: peer ? nodeCard(peer, "peer") : silentCard(own.peer, away) };
  const source = [own, peer].find((status) => status && SERVING.includes(status.role)) ?? own;
  const from = SERVING.includes(source.role) ? source.node : SERVING.includes(other.role) ? own.peer.name : null;
  return [cards.a, linkCard(source.mirror, from), cards.b];
}

function nodeCard(status, which) {
  const serving = SERVING.includes(status.role) && status.probe.ok;
  return h("article", { class: `card node${serving ? " serving" : ""}`, "aria-label": `Node ${status.node}` },
    h("h2", {}, `Node ${status.node} (${which}) `, roleBadge(status.role, status.phase)),
    serving && h("p", { class: "vip" }, "The virtual IP leads here"),
    h("p", {}, status.sentence, " ", status.rule ? h("code", {}, status.rule) : ""),
    h("dl", {}, fact("Epoch", status.epoch), fact("Application", status.application.state),
      fact("Probe", status.probe.ok ? "OK" : status.probe.reason || "not serving"),
      fact("Recent failures", status.application.restartsInWindow),
      status.application.error ? fact("Error", status.application.error) : null,
      Object.entries(status.peer.paths).map(([address, state]) => fact(`Its peer at ${address}`, state))));
}

/** The other node by its heartbeats only. */
function silentCard(peer, away) {
  return h("article", { class: `card node${SERVING.includes(peer.role) && peer.alive ? " serving" : ""}`, "aria-label": `Node ${peer.name}` },
    h("h2", {}, `Node ${peer.name} (peer) `, peer.alive ? roleBadge(peer.role, peer.phase) : badge("bad", `silent, was ${peer.role}`)),
    h("dl", {}, fact("Epoch", peer.epoch), Object.entries(peer.paths).map(([address, state]) => fact(`Heartbeat over ${address}`, state)),
      away ? fact("Its console", away) : null));
}

function linkCard(mirror, from) {
  const [kind, word] = LINKS[mirror.link] ?? ["none", "no replication"];
  const flows = (mirror.link === "live" || mirror.link === "resync") && from;
  const lines = [
    flows && `${bytes(mirror.replicatedBytesPerS)}/s, ${number(Math.round(mirror.operationsPerS))} operations/s`,
    typeof mirror.ackLatencyMsP50 === "number" && `acknowledged in ${mirror.ackLatencyMsP50.toFixed(1)} ms`,
    typeof mirror.ackLatencyMsP99 === "number" && `99 % within ${mirror.ackLatencyMsP99.toFixed(1)} ms`,
    flows && (mirror.inFlightBytes ? `lag ${bytes(mirror.inFlightBytes)}` : "no lag"),
    `${bytes(mirror.replicatedBytes)} in ${number(mirror.operations)} operations`,
  ];
  return h("div", { class: `link ${kind}` },
    h("div", { class: "arrow", "aria-hidden": "true" }, flows ? (from === "b" ? "←" : "→") : "✕"),
    badge(kind, word),
    resyncBar(mirror),
    h("ul", { class: "plain hint" }, lines.filter(Boolean).map((line) => h("li", {}, line))),
    mirror.error ? h("p", { class: "hint" }, mirror.error) : "");
}
