// What to do now, in one sentence, from what the page shows. "Nothing" is the usual answer, and is said.

import { duration, roleKind } from "../words.js";

const BUSY = ["NotStarted", "Running"];

export function adviceOf(view) {
  const { safety, reports, operation, alerts, cluster, remediation } = view;
  if (operation && BUSY.includes(operation.status)) return `Wait: ${operation.action ?? operation.kind} is under way, ${operation.percentComplete} %.`;
  if (operation?.status === "Failed") return "Read the error of the operation below; what was asked for did not happen.";
  const firing = alerts.filter((alert) => alert.state === "firing");
  switch (safety.state) {
    case "in-sync":
      return firing.length ? "Look at the alert below, and acknowledge it if you take it. The data is safe meanwhile." : "Nothing.";
    case "all-serve":
      return firing.length ? "Look at the alert below, and acknowledge it if you take it." : "Nothing.";
    case "reduced":
      return reduced(safety, reports, cluster);
    case "exposed":
      return exposed(safety.serving, reports, cluster, remediation);
    case "not-serving":
      return stopped(reports) ? "Press Start: every node is stopped." : "Look at what each node says below; it names what it waits for.";
    default:
      return "Look at the nodes themselves: the control plane does not hear them. They work on without it.";
  }
}

function exposed(serving, reports, cluster, remediation) {
  if (!serving) return "Wait: the application is starting.";
  const lost = serving === "a" ? "b" : "a";
  const report = reports[lost];
  const mirror = reports[serving]?.heartbeat.mirror;
  if (mirror?.link === "resync") {
    const begun = mirror.resyncDoneBytes * 100 >= mirror.resyncTotalBytes;
    const left = !begun || mirror.resyncRemainingS === null || mirror.resyncRemainingS === undefined ? "" : ` (${duration(mirror.resyncRemainingS)} left)`;
    return `Nothing: node ${lost} is being brought up to date${left}. Do not stop node ${serving} before that is done.`;
  }
  if (report?.fresh && report.heartbeat.role === "STOP") return `Press Start: node ${lost} is stopped.`;
  const repairs = remediation ? ` Repair: ${remediation}` : cluster.remediation?.mode === "on" ? " The control plane repairs it by itself if it stays away." : "";
  if (report?.fresh && roleKind(report.heartbeat.role, report.heartbeat.phase) === "busy") return `Wait: node ${lost} is coming back.`;
  return `Bring node ${lost} back: its machine is silent.${repairs}`;
}

function reduced(safety, reports, cluster) {
  const names = cluster.nodes.map((entry) => entry.name).filter((node) => !safety.up.includes(node));
  const halted = names.filter((node) => reports[node]?.fresh && reports[node].heartbeat.role === "STOP");
  if (halted.length) return `Press Start: stopped on node ${halted.join(", ")}.`;
  const least = cluster.minimumHealthy ?? 1;
  if (safety.up.length < least) return `Look at nodes ${names.join(", ")} at once: ${safety.up.length} serve, ${least} must before anything is repaired by itself.`;
  if (names.every((node) => reports[node]?.fresh)) return `Wait: node ${names.join(", ")} is coming back.`;
  return `Bring node ${names.join(", ")} back.${cluster.remediation?.mode === "on" ? " The control plane repairs it by itself if it stays away." : ""}`;
}

const stopped = (reports) => {
  const known = Object.values(reports);
  return known.length > 1 && known.every((report) => report.fresh && report.heartbeat.role === "STOP");
};
