// All clusters, worst first: searched, filtered and paged by the server. One page is shown, whatever the fleet's size.

import { get } from "../api.js";
import { h, part, scroll, wide } from "../dom.js";
import { live } from "../live.js";
import { number, verdictBadge, when } from "../words.js";

const VERDICTS = ["down", "exposed", "degraded", "unknown", "healthy"];
const TOP = 50;
const ORDERS = [["worst", "worst first"], ["name", "by name"], ["newest", "newest change first"]];

export function fleetPage({ may }) {
  const wanted = { search: "", verdict: "", order: "worst" };
  let pages = [""]; // what continues to each page so far; the last one is shown

  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const storm = part("div", {}, (on, sentence) => on && h("p", { class: "note warn", role: "status" }, `Storm: ${sentence}`));
  const chips = part("div", { class: "chips", role: "group", "aria-label": "Filter by verdict" }, (counts) => [
    chip("", "all", Object.values(counts).reduce((sum, count) => sum + count, 0)),
    ...VERDICTS.map((verdict) => chip(verdict, verdict, counts[verdict] ?? 0)),
  ]);
  const table = part("div", scroll("Clusters"), (rows, matching) => [
    matching === 0 ? empty() : tableOf(rows),
  ]);
  const foot = part("nav", { class: "buttons", "aria-label": "Pages" }, (begin, shown, matching, next) => [
    h("span", { class: "hint" }, shown ? `${number(begin + 1)} to ${number(begin + shown)} of ${number(matching)}` : ""),
    begin > 0 && h("button", { type: "button", id: "back", onclick: () => turn(pages.slice(0, -1)) }, "Back"),
    next && h("button", { type: "button", id: "more", onclick: () => turn([...pages, next]) }, "Next"),
  ]);

  const reader = live(
    (signal) => get("fleet", { ...wanted, top: TOP, continue: pages.at(-1) }, { signal }),
    draw,
    (error) => note.show(error?.message ?? ""),
    4000,
  );

  function draw(page) {
    if (page.value.length === 0 && pages.length > 1) return turn(pages.slice(0, -1)); // the fleet became shorter
    storm.show(page.storm, page.stormSentence);
    chips.show(page.counts, wanted.verdict);
    table.show(page.value, page.matching);
    foot.show((pages.length - 1) * TOP, page.value.length, page.matching, page.nextLink ? new URL(page.nextLink).searchParams.get("continue") : null);
  }

  function turn(to) {
    pages = to;
    reader.now();
  }

  function choose(change) {
    Object.assign(wanted, change);
    turn([""]);
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
  return wide(["Cluster", "Verdict", "Serving", "Nodes", "Why", "Since"], rows.map((row) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/clusters/${row.cluster}` }, row.cluster)),
    h("td", {}, verdictBadge(row.state)),
    h("td", {}, row.up.length ? row.up.join(", ") : row.serving ?? "–"),
    h("td", {}, Object.keys(row.nodes).sort().map((node) => h("span", { class: "of-node" }, `${node} `, verdictBadge(row.nodes[node].state)))),
    h("td", {}, row.sentence, row.pausedBy.length ? h("div", { class: "hint" }, `Repairs pause: ${row.pausedBy.join("; ")}`) : ""),
    h("td", {}, when(row.since)),
  )), "Clusters with their last verdict");
}
