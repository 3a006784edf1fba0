// All clusters, worst first: searched, filtered and paged by the server.

import { follow, get } from "../api.js";
import { h, part, scroll } from "../dom.js";
import { live } from "../live.js";
import { number, verdictBadge, when } from "../words.js";

const VERDICTS = ["down", "exposed", "degraded", "unknown", "healthy"];
const ORDERS = [["worst", "worst first"], ["name", "by name"], ["newest", "newest change first"]];

export function fleetPage({ may }) {
  const wanted = { search: "", verdict: "", order: "worst" };
  let more = []; // pages beyond the first, as they were when asked for

  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const storm = part("div", {}, (on, sentence) => on && h("p", { class: "note warn", role: "status" }, `Storm: ${sentence}`));
  const chips = part("div", { class: "chips", role: "group", "aria-label": "Filter by verdict" }, (counts) => [
    chip("", "all", Object.values(counts).reduce((sum, count) => sum + count, 0)),
    ...VERDICTS.map((verdict) => chip(verdict, verdict, counts[verdict] ?? 0)),
  ]);
  const table = part("div", scroll("Clusters"), (rows, matching) => [
    matching === 0 ? empty() : tableOf(rows),
  ]);
  const foot = part("div", { class: "buttons" }, (shown, matching, next) => [
    h("span", { class: "hint" }, `${number(shown)} of ${number(matching)} shown`),
    next && h("button", { type: "button", id: "more", onclick: () => showMore(next) }, "Show more"),
  ]);
  let first = null;

  const reader = live(
    (signal) => get("fleet", { ...wanted, top: 50 }, { signal }),
    (page) => { first = page; draw(); },
    (error) => note.show(error?.message ?? ""),
    4000,
  );

  function draw() {
    storm.show(first.storm, first.stormSentence);
    chips.show(first.counts, wanted.verdict);
    const rows = [...first.value, ...more.flatMap((page) => page.value)];
    table.show(rows, first.matching);
    const last = more.at(-1) ?? first;
    foot.show(rows.length, first.matching, last.nextLink ?? null);
  }

  async function showMore(link) {
    more.push(await follow(link));
    draw();
  }

  function choose(change) {
    Object.assign(wanted, change);
    more = [];
    reader.now();
  }

  function chip(verdict, word, count) {
    const pressed = wanted.verdict === verdict;
    return h("button", { type: "button", id: `chip-${word}`, "aria-pressed": String(pressed), onclick: () => choose({ verdict }) }, `${word} ${number(count)}`);
  }

  const empty = () =>
    wanted.search || wanted.verdict
      ? h("p", {}, "No cluster matches.")
      : h("p", {}, "There is no cluster yet. ", may("Admin") ? h("a", { href: "#/new" }, "Create the first one") : "");

  let timer = 0;
  const search = h("input", {
    id: "search", type: "search", placeholder: "Search by name", "aria-label": "Search by name",
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => choose({ search: search.value }), 250); },
  });
  const order = h("select", { id: "order", "aria-label": "Order", onchange: () => choose({ order: order.value }) },
    ORDERS.map(([value, word]) => h("option", { value }, word)));
  const create = may("Admin") && h("a", { class: "button primary", href: "#/new" }, "New cluster");
  const element = h("div", {}, note.element, storm.element,
    h("div", { class: "tools" }, search, order, chips.element, create), table.element, foot.element);
  return ["Fleet", { element, enter: reader.enter, leave: reader.leave }];
}

function tableOf(rows) {
  return h("table", {},
    h("caption", { class: "unseen" }, "Clusters with their last verdict"),
    h("thead", {}, h("tr", {}, ["Cluster", "Verdict", "Serving", "Node a", "Node b", "Why", "Since"].map((word) => h("th", { scope: "col" }, word)))),
    h("tbody", {}, rows.map((row) => h("tr", {},
      h("th", { scope: "row" }, h("a", { href: `#/clusters/${row.cluster}` }, row.cluster)),
      h("td", {}, verdictBadge(row.state)),
      h("td", {}, row.serving ?? "–"),
      ["a", "b"].map((node) => h("td", {}, row.nodes[node] ? verdictBadge(row.nodes[node].state) : "–")),
      h("td", {}, row.sentence, row.pausedBy.length ? h("div", { class: "hint" }, `Repairs pause: ${row.pausedBy.join("; ")}`) : ""),
      h("td", {}, when(row.since)),
    ))));
}
