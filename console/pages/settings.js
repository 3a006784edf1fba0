// API tokens: made (shown once), listed, removed.

import { change, get } from "../api.js";
import { ask, showOnce } from "../dialog.js";
import { h, part, scroll, wide } from "../dom.js";
import { live } from "../live.js";
import { when } from "../words.js";

export function settingsPage({ may, me }) {
  const note = part("div", {}, (message) => message && h("p", { class: "note bad", role: "alert" }, message));
  const about = h("section", { class: "card" }, h("h2", {}, "You"), h("p", {}, `Signed in as ${me.name} with the role ${me.role}.`));
  if (!may("Admin")) {
    return ["Settings", { element: h("div", {}, about, h("p", { class: "hint" }, "API tokens are managed by an administrator.")) }];
  }
  const list = part("div", scroll("API tokens"), (tokens) => tokens.length === 0 ? h("p", { class: "hint" }, "None yet.") : wide(["Name", "Role", "Made", "By", "Expires", ""], tokens.map((token) => h("tr", {}, h("th", { scope: "row" }, token.name), h("td", {}, token.role), h("td", {}, when(token.createdAt)),
      h("td", {}, token.createdBy), h("td", {}, when(token.expiresAt)),
      h("td", {}, h("button", { type: "button", id: `remove-${token.id}`, onclick: () => remove(token) }, "Remove"))))));
  const reader = live((signal) => get("tokens", { top: 100 }, { signal }), (page) => list.show(page.value), (error) => note.show(error?.message ?? ""), 10000);

  async function remove(token) {
    const reason = await ask({ title: `Remove token ${token.name}?`, effects: ["Whoever uses it is refused from now on."], action: "Remove", danger: true });
    if (reason === null) return;
    await tried(() => change("DELETE", `tokens/${token.id}`, null));
  }

  async function tried(work) {
    try { await work(); note.show(""); } catch (error) { note.show(error.message); }
    reader.now();
  }

  const name = h("input", { id: "token-name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9 ._\\-]{0,63}", autocomplete: "off" });
  const role = h("select", { id: "token-role" }, ["Monitor", "Control", "Admin"].map((word) => h("option", {}, word)));
  const days = h("select", { id: "token-days" }, [["30", "30 days"], ["1", "1 day"], ["365", "a year"], ["", "never"]].map(([value, word]) => h("option", { value }, word)));
  const form = h("form", { class: "tools", onsubmit: (event) => {
    event.preventDefault();
    tried(async () => {
      const expiresAt = days.value ? new Date(Date.now() + days.value * 86400000).toISOString() : null;
      const made = await change("POST", "tokens", { name: name.value, role: role.value, expiresAt });
      showOnce(`Token ${made.body.name}`, made.body.token);
      name.value = "";
    });
  } },
  h("label", { for: "token-name" }, "Name ", name), h("label", { for: "token-role" }, "Role ", role),
  h("label", { for: "token-days" }, "Expires ", days), h("button", { class: "primary", type: "submit" }, "Make a token"));
  const tokens = h("section", { class: "card" }, h("h2", {}, "API tokens"), form, list.element);
  return ["Settings", { element: h("div", {}, note.element, about, tokens), enter: reader.enter, leave: reader.leave }];
}
