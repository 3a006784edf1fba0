// The shell: who is here, which page the address names, and its life (a page that is left stops asking).

import { get, token } from "./api.js";
import { h, say } from "./dom.js";
import { alertsPage } from "./pages/alerts.js";
import { clusterPage } from "./pages/cluster.js";
import { createPage } from "./pages/create.js";
import { credentialPage } from "./pages/credential.js";
import { fleetPage } from "./pages/fleet.js";
import { journalPage } from "./pages/journal.js";
import { loginPage } from "./pages/login.js";
import { settingsPage } from "./pages/settings.js";

const ROUTES = [
  [/^\/$/, fleetPage],
  [/^\/clusters\/([a-z0-9-]+)$/, clusterPage],
  [/^\/new$/, createPage],
  [/^\/alerts$/, alertsPage],
  [/^\/journal$/, journalPage],
  [/^\/settings$/, settingsPage],
];
const LINKS = [["#/", "Fleet"], ["#/alerts", "Alerts"], ["#/journal", "Journal"], ["#/settings", "Settings"]];
const RANKS = { Monitor: 1, Control: 2, Admin: 3 };

let leave = () => {};
let me = null;

export function may(role) {
  return me !== null && RANKS[me.role] >= RANKS[role];
}

async function enter() {
  const link = /^#\/credential\/(.+)$/.exec(location.hash);
  if (link) return open("Access", credentialPage(link[1]));
  try {
    me = await get("me");
  } catch (error) {
    me = null;
    if (error.status !== 401 && error.status !== 403) return failed(error);
    return login(token.get() ? "This token is not valid (any more)." : "");
  }
  return route();
}

function login(problem) {
  open("Sign in", loginPage(problem, (text) => { token.set(text); enter(); }));
}

function route() {
  const path = location.hash.slice(1) || "/";
  for (const [pattern, page] of ROUTES) {
    const found = pattern.exec(path);
    if (found) return open(...page({ name: found[1], may, me, moved: enter }));
  }
  return open("Not found", { element: h("p", {}, `There is no page ${path}.`, " ", h("a", { href: "#/" }, "To the fleet")) });
}

function open(title, page) {
  leave();
  leave = page.leave ?? (() => {});
  document.title = `${title} – Mirrorplane`;
  bar();
  const heading = h("h1", { tabindex: "-1" }, title);
  document.getElementById("main").replaceChildren(page.hideTitle ? page.element : h("div", {}, heading, page.element));
  document.getElementById("main").querySelector("h1")?.focus({ preventScroll: true });
  say(title);
  page.enter?.();
}

function bar() {
  const here = `#${location.hash.slice(1) || "/"}`;
  const links = LINKS.map(([address, word]) =>
    h("a", { href: address, "aria-current": here === address ? "page" : null }, word));
  document.getElementById("bar").replaceChildren(
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/console/mark.svg", alt: "", width: 26, height: 26 }), "Mirrorplane"),
    h("nav", { "aria-label": "Main" }, me ? links : []),
    me
      ? h("div", { class: "who" }, h("span", {}, `${me.name} (${me.role})`),
          h("button", { type: "button", onclick: () => { token.forget(); enter(); } }, "Sign out"))
      : "",
  );
}

function failed(error) {
  const again = h("button", { type: "button", onclick: enter }, "Try again");
  open("No answer", { element: h("div", { class: "note bad" }, h("p", {}, error.message), again) });
}

window.addEventListener("hashchange", () => (me && !location.hash.startsWith("#/credential/") ? route() : enter()));
enter();
