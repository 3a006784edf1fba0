// The two copies: are they the same, what is under way, and what was kept when one was made like the other.

import { h, part, scroll, wide } from "./dom.js";
import { live } from "./live.js";
import { fact } from "./node_view.js";
import { badge, bytes, number, when } from "./words.js";

const OUTCOMES = { identical: "good", different: "bad", incomplete: "warn" };

export function copiesOf(status) {
  if (!status) return [h("h2", {}, "The two copies"), h("p", { class: "hint" }, "The node does not answer.")];
  const { mirror } = status;
  const verify = mirror.verify;
  return [
    h("h2", {}, "The two copies"),
    h("dl", {},
      fact("Acknowledging", ACKNOWLEDGING[mirror.acknowledging] ?? mirror.acknowledging),
      mirror.dirtyFiles ? fact("Changed since the newest checkpoint", `${number(mirror.dirtyFiles)} files, ${bytes(mirror.dirtyBytes ?? 0)}`) : null,
      mirror.resyncRule ? fact("Resync", h("code", {}, mirror.resyncRule)) : null,
      mirror.quarantineFull ? fact("Quarantine", badge("bad", mirror.quarantineFull)) : null,
      fact("Last verify", verify?.outcome
        ? [badge(OUTCOMES[verify.outcome] ?? "none", verify.outcome), " ", when(verify.endedUtc), verify.differences ? ` ${number(verify.differences)} differences stand` : "", verify.reason ? ` ${verify.reason}` : ""]
        : "none yet"),
      verify?.running ? fact("Verify", [h("progress", { value: verify.doneBytes, max: Math.max(verify.totalBytes, 1), "aria-label": "Verify" }), ` ${number(verify.entries)} entries, ${bytes(verify.doneBytes)} of ${bytes(verify.totalBytes)}`]) : null),
  ];
}

const ACKNOWLEDGING = {
  paired: "when both nodes have it",
  solo: "when this node has it: it runs alone",
  parked: "nothing: calls wait for the witness's word",
  none: "nothing: this node is not primary",
};

/** Read when it is opened, and while it stays open. */
export function quarantinePart(node, api) {
  const list = part("div", {}, (answer, message) => {
    if (message) return h("p", { class: "hint" }, message);
    if (answer.total === 0) return h("p", { class: "hint" }, "Nothing was kept.");
    return [
      h("p", { class: "hint" }, `${number(answer.kept.length)} of ${number(answer.total)}, newest first. Brought back on the node: mirrorctl mirror quarantine restore ID TARGET`),
      h("div", scroll("Quarantine"), wide(["ID", "What", "Path", "Size", "When"],
        answer.kept.map((kept) => h("tr", {}, h("td", {}, h("code", {}, kept.id)), h("td", {}, kept.kind),
          h("th", { scope: "row" }, kept.path), h("td", {}, bytes(kept.size_bytes)), h("td", {}, when(kept.at_utc)))))),
    ];
  });
  const box = h("details", { class: "card", ontoggle: () => { if (box.open) reader.now(); } },
    h("summary", {}, h("h2", {}, `Quarantine of node ${node}`)), list.element);
  const reader = live(
    (signal) => (box.open ? api.get("quarantine", { signal }) : null),
    (answer) => { if (answer) list.show(answer, ""); },
    (error) => { if (error) list.show(null, error.message); },
    10000,
  );
  return { element: box, enter: reader.enter, leave: reader.leave };
}
