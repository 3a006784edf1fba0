// The last hours of every node: one strip of heartbeats (with roles), one of probes, each with its words.

import { get } from "../api.js";
import { h, part, svg } from "../dom.js";
import { live } from "../live.js";
import { roleKind } from "../words.js";

const WIDTH = 600;
const HEIGHT = 14;

export function stripsPart(name) {
  const shown = part("div", {}, (view) => Object.keys(view.nodes).sort().map((node) => nodeStrips(node, view)));
  const hours = h("select", { id: "hours", "aria-label": "Hours", onchange: () => reader.now() },
    [1, 2, 6].map((count) => h("option", { value: count, selected: count === 2 }, `${count} h`)));
  const reader = live((signal) => get(`clusters/${name}/strips`, { hours: hours.value }, { signal }), (view) => shown.show(view), () => {}, 30000);
  const element = h("section", { class: "card", "aria-label": "Last hours" }, h("h2", {}, "Last hours ", hours), shown.element,
    h("p", { class: "hint" }, "Left is older. Upper row, heartbeats: green ready, orange in between or alone, red stopped, empty none. Lower row, probes: green serves, grey stands by, red no answer, empty none."));
  return { element, enter: reader.enter, leave: reader.leave };
}

function nodeStrips(node, view) {
  const { beats, probes } = view.nodes[node];
  const silent = beats.filter((piece) => piece.beats === 0).length;
  const unanswered = probes.filter((piece) => piece.worst).length;
  return h("div", { class: "strips" },
    h("span", {}, `Node ${node}`),
    strip(beats.map((piece) => (piece.beats ? `k-${roleKind(piece.role, piece.phase)}` : "k-gap")), `Heartbeats of node ${node}: ${silent} of ${beats.length} pieces without any`),
    strip(probes.map((piece) => (!piece.probes ? "k-gap" : piece.worst ? "k-bad" : piece.serving ? "k-good" : "k-none")), `Probes of node ${node}: ${unanswered} of ${probes.length} pieces with an unanswered one`));
}

function strip(kinds, label) {
  const size = WIDTH / kinds.length;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none", class: "strip" },
    svg("title", {}, label),
    kinds.map((kind, index) => svg("rect", { x: (index * size).toFixed(2), y: 0, width: Math.max(size - 0.6, 0.5).toFixed(2), height: HEIGHT, class: kind })));
}
