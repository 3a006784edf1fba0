// The nodes' console: both nodes as they see themselves, and one of the two to be managed.

import { h, part } from "./dom.js";
import { live } from "./live.js";
import { nodeApi } from "./node_api.js";
import { farmParts } from "./node_farm.js";
import { managePart } from "./node_manage.js";
import { pairOf, summaryOf } from "./node_view.js";

const here = nodeApi(true);
const there = nodeApi(false);

const brand = (text) => h("span", { class: "brand" }, h("img", { src: "/console/mark.svg", alt: "", width: 26, height: 26 }), text);

async function enter() {
  document.getElementById("bar").replaceChildren(brand("Mirrorplane node"));
  try {
    const me = await here.get("me");
    if ((await here.get("status")).kind === "farm") openFarm(me);
    else open(me);
  } catch (error) {
    const words = error.status === 401
      ? ["This node wants a client certificate.", "Ask an administrator of the control plane for a credential link, import the file behind it into the browser, and load this page again."]
      : [error.message];
    main(h("div", { class: "card narrow" }, h("h1", { tabindex: "-1" }, "No access"), words.map((word) => h("p", {}, word)),
      h("p", {}, h("a", { href: "/mosaic" }, "The test page"), " is open to everybody."),
      h("button", { type: "button", onclick: enter }, "Try again")));
  }
}

function main(element) {
  document.getElementById("main").replaceChildren(element);
  element.querySelector("h1")?.focus({ preventScroll: true });
}

function greet(me) {
  document.title = `${me.cluster} – node ${me.node}`;
  document.getElementById("bar").replaceChildren(
    brand(`Cluster ${me.cluster}`),
    h("span", {}, `answered by node ${me.node}`),
    h("div", { class: "who" }, h("span", {}, `${me.name} (${me.role})`)));
}

function openFarm(me) {
  greet(me);
  main(farmParts(me, here));
}

function open(me) {
  greet(me);
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const summary = part("section", { class: "card summary", "aria-label": "Summary" }, summaryOf);
  const pair = part("section", { class: "pair", "aria-label": "Nodes" }, pairOf);
  const choice = part("div", { class: "tools", role: "group", "aria-label": "Which node to manage" }, (chosen) => [
    h("span", {}, "Manage"),
    ...[me.node, me.peer].map((node) => h("button", { type: "button", id: `choose-${node}`, "aria-pressed": String(node === chosen), onclick: () => choose(node) },
      `Node ${node}${node === me.node ? " (this one)" : ""}`)),
  ]);
  const place = h("div", {});
  const seen = { own: null, peer: null, peerAway: "" };
  let managed = null;

  const own = live(
    async (signal) => ({ status: await here.get("status", { signal }), drill: await here.get("drill", { signal }) }),
    (view) => { seen.own = view; draw(); },
    (error) => note.show(error?.message ?? ""),
    1000,
  );
  const peer = live(
    async (signal) => ({ status: await there.get("status", { signal }), drill: await there.get("drill", { signal }) }),
    (view) => { seen.peer = view; seen.peerAway = ""; draw(); },
    (error) => {
      if (error === null) return;
      seen.peer = null;
      seen.peerAway = error.message;
      draw();
    },
    2000,
  );

  function draw() {
    if (!seen.own) return;
    summary.show(seen.own.status, seen.peer?.status ?? null);
    pair.show(seen.own.status, seen.peer?.status ?? null, seen.peerAway);
    managed.show(managed.own ? seen.own : seen.peer, seen.peerAway);
  }

  function choose(node) {
    managed?.leave();
    managed = managePart({ me, node, own: node === me.node, api: node === me.node ? here : there, again: () => { own.now(); peer.now(); } });
    place.replaceChildren(managed.element);
    choice.show(node);
    managed.enter();
    draw();
  }

  choose(me.node);
  main(h("div", {}, h("h1", { tabindex: "-1" }, `Cluster ${me.cluster}`), note.element, summary.element, pair.element, choice.element, place));
  own.enter();
  peer.enter();
}

enter();
