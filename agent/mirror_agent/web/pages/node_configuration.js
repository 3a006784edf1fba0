// How the node is configured, as the control plane told it: without secrets.

import { h, part } from "./dom.js";
import { fact } from "./node_view.js";
import { number } from "./words.js";

/** Read when it is opened. */
export function configurationPart(node, api) {
  const shown = part("div", {}, (document, message) => (message ? h("p", { class: "hint" }, message) : configurationOf(document)));
  const box = h("details", { class: "card", ontoggle: () => {
    if (box.open) api.get("configuration").then((document) => shown.show(document, ""), (error) => shown.show(null, error.message));
  } }, h("summary", {}, h("h2", {}, `Configuration of node ${node}`)), shown.element);
  return { element: box };
}

function configurationOf({ application, timing, ...rest }) {
  return [
    h("dl", {},
      fact("Version", rest.version), fact("Address", rest.address), (rest.peers ?? [rest.peer]).map((peer) => fact("Peer", `${peer.name}: ${peer.addresses.join(", ")}`)),
      rest.kind === "farm"
        ? fact("Others that must serve before a repair", rest.minimumHealthy)
        : [fact("Failover", rest.failover ? "on" : "off"), fact("Default primary", rest.defaultPrimary ?? "none")],
      fact("Application", application.name), fact("Service ports", application.servicePorts.join(", ") || "none"),
      application.replicatedPaths.map((entry) => fact("Replicated", `${entry.path} (${entry.mode})`)),
      application.packages.length ? fact("Packages", application.packages.join(", ")) : null,
      application.files.map((file) => fact("File", `${file.path}, ${number(file.bytes)} bytes`)),
      Object.keys(application.environment).length ? fact("Environment (values hidden)", Object.keys(application.environment).join(", ")) : null),
    application.checkers.length ? h("h3", {}, "Checkers") : "",
    h("ul", {}, application.checkers.map((checker) => h("li", {}, h("strong", {}, checker.name), ` ${checker.kind} every ${checker.intervalS} s, ${checker.threshold} failures: ${checker.action}`))),
    h("h3", {}, "start_prim"), h("pre", { tabindex: "0" }, application.startPrim),
    h("h3", {}, "stop_prim"), h("pre", { tabindex: "0" }, application.stopPrim),
    h("h3", {}, "Timing"),
    h("dl", {}, Object.entries(timing).map(([name, value]) => fact(name, value))),
  ];
}
