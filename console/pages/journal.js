// What people and their tools did, newest first.

import { follow, get } from "../api.js";
import { h, part, scroll, wide } from "../dom.js";
import { live } from "../live.js";
import { badge, when } from "../words.js";

// The API's names for what was done, in words; an unknown one is shown as it is.
const WORDS = {
  cluster_put: "create or change", cluster_delete: "delete", cluster_action: "",
  alert_action: "alert:", silence_create: "silence", silence_put: "change a silence", silence_delete: "end a silence",
  credential_create: "offer access", credential_delete: "revoke access", credential_redeem: "download access",
  node_order: "at the node:", token_create: "make a token", token_delete: "remove a token", keys_rewrap: "wrap keys anew",
};

function wordsOf(what) {
  const [name, action] = what.split(":");
  return [WORDS[name] ?? name, action].filter(Boolean).join(" ");
}

export function journalPage() {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const table = part("div", scroll("Journal"), tableOf);
  const foot = part("div", { class: "buttons" }, (next) => next && h("button", { type: "button", id: "older", onclick: () => more(next) }, "Show older"));
  const days = h("select", { id: "days", "aria-label": "How far back", onchange: () => { older = []; reader.now(); } },
    [[7, "last 7 days"], [30, "last 30 days"], [400, "all"]].map(([value, word]) => h("option", { value }, word)));
  let first = { value: [] };
  let older = [];
  const reader = live((signal) => get("journal", { top: 50, from: new Date(Date.now() - days.value * 86400000).toISOString() }, { signal }), (page) => { first = page; draw(); }, (error) => note.show(error?.message ?? ""), 10000);

  function draw() {
    table.show([...first.value, ...older.flatMap((page) => page.value)]);
    foot.show((older.at(-1) ?? first).nextLink ?? null);
  }

  async function more(link) {
    older.push(await follow(link));
    draw();
  }

  return ["Journal", { element: h("div", {}, note.element, h("div", { class: "tools" }, days), table.element, foot.element), enter: reader.enter, leave: reader.leave }];
}

function tableOf(entries) {
  if (entries.length === 0) return h("p", {}, "Nobody has done anything yet.");
  return wide(["When", "Who", "What", "To", "Result", "Why"], entries.map((entry) => h("tr", {},
    h("td", {}, when(entry.at)),
    h("td", {}, entry.principalName, h("div", { class: "hint" }, entry.principal)),
    h("td", {}, wordsOf(entry.what)),
    h("td", {}, entry.cluster ? h("a", { href: `#/clusters/${entry.cluster}` }, entry.target) : entry.target),
    h("td", {}, badge(entry.status < 400 ? "good" : "bad", entry.result)),
    h("td", {}, entry.reason, entry.message ? h("div", { class: "hint" }, entry.message) : ""))));
}
