// The node's events, newest first; following until that is switched off.

import { h, part, scroll } from "./dom.js";
import { live } from "./live.js";

const KEPT = 500;
const PAGE = 200;

export function logPart(node, api) {
  let after = 0;
  let events = [];
  const follow = h("input", { type: "checkbox", id: "follow", checked: true, onchange: () => reader.now() });
  const search = h("input", { type: "search", id: "log-search", placeholder: "Only lines with …", "aria-label": "Only lines with", oninput: draw });
  const list = part("ol", { class: "story" }, (shown) => shown.map((event) => {
    const { seq, utc, kind, ...rest } = event;
    return h("li", {}, h("time", { datetime: utc, title: utc }, new Date(utc).toLocaleTimeString()), h("strong", {}, kind), h("span", {}, words(rest)));
  }));
  const reader = live(
    (signal) => (follow.checked ? api.get(`events?after=${after}&limit=${PAGE}`, { signal }) : null),
    (page) => {
      if (page === null || page.events.length === 0) return;
      after = page.next;
      events = [...page.events.reverse(), ...events].slice(0, KEPT);
      draw();
      if (page.events.length === PAGE) reader.now();
    },
    () => {},
    1500,
  );

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    list.show(wanted ? events.filter((event) => `${event.kind} ${words(event)}`.toLowerCase().includes(wanted)) : events);
  }

  const element = h("section", { class: "card log", "aria-label": "Log" }, h("h2", {}, `Log of node ${node}`),
    h("div", { class: "tools" }, h("label", { for: "follow" }, follow, " follow"), search), h("div", scroll("Lines of the log"), list.element));
  return { element, enter: reader.enter, leave: reader.leave };
}

const words = (fields) => Object.entries(fields).map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`).join("  ");
