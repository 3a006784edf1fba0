// Who may reach the nodes of a cluster: offered by one-time link, listed, revoked. For administrators.

import { change, get } from "../api.js";
import { ask, showOnce } from "../dialog.js";
import { h, part, scroll, wide } from "../dom.js";
import { live } from "../live.js";
import { badge, when } from "../words.js";

const STATES = { offered: "warn", downloaded: "good", revoked: "bad", expired: "none" };

export function accessPart(name) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const list = part("div", scroll("Credentials"), listOf);
  const reader = live((signal) => get(`clusters/${name}/credentials`, {}, { signal }), (page) => list.show(page.value), (error) => note.show(error?.message ?? ""), 15000);

  async function tried(work) {
    try { await work(); note.show(""); } catch (error) { note.show(error.message); }
    reader.now();
  }

  async function revoke(credential) {
    const effects = credential.state === "offered"
      ? ["The link opens nothing any more."]
      : ["The nodes refuse the certificate within a minute, also on connections that are open."];
    const reason = await ask({ title: `Revoke the access of ${credential.name}?`, effects, action: "Revoke", danger: true });
    if (reason !== null) await tried(() => change("DELETE", `clusters/${name}/credentials/${credential.id}`));
  }

  function listOf(credentials) {
    if (credentials.length === 0) return h("p", { class: "hint" }, "Nobody yet.");
    return wide(["Who", "Role", "State", "Offered", "Until", ""], credentials.map((credential) => h("tr", {},
        h("th", { scope: "row" }, credential.name), h("td", {}, credential.role), h("td", {}, badge(STATES[credential.state], credential.state)),
        h("td", {}, when(credential.createdAt), h("div", { class: "hint" }, credential.createdBy)),
        h("td", {}, when(credential.certificateExpiresAt ?? credential.linkExpiresAt)),
        h("td", {}, ["offered", "downloaded"].includes(credential.state)
          ? h("button", { type: "button", id: `revoke-${credential.id}`, onclick: () => revoke(credential) }, "Revoke") : ""))));
  }

  const who = h("input", { id: "access-name", required: true, autocomplete: "off", pattern: "[A-Za-z0-9][A-Za-z0-9 ._@\\-]{0,63}" });
  const role = h("select", { id: "access-role" }, ["Monitor", "Control", "Admin"].map((word) => h("option", {}, word)));
  const days = h("select", { id: "access-days" }, [[90, "90 days"], [7, "7 days"], [365, "a year"]].map(([value, word]) => h("option", { value }, word)));
  const form = h("form", { class: "tools", onsubmit: (event) => {
    event.preventDefault();
    tried(async () => {
      const made = await change("POST", `clusters/${name}/credentials`, { name: who.value.trim(), role: role.value, validDays: Number(days.value) });
      showOnce(`One-time link for ${made.body.name}`, made.body.url);
      who.value = "";
    });
  } },
  h("label", { for: "access-name" }, "Who ", who), h("label", { for: "access-role" }, "Role on the nodes ", role),
  h("label", { for: "access-days" }, "Certificate for ", days), h("button", { type: "submit" }, "Make a one-time link"));

  const element = h("section", { class: "card", "aria-label": "Access to the nodes" },
    h("h2", {}, "Access to the nodes"), note.element, form, list.element);
  return { element, enter: reader.enter, leave: reader.leave };
}
