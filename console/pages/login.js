import { h } from "../dom.js";

export function loginPage(problem, signIn) {
  const field = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false" });
  const form = h(
    "form",
    { class: "card narrow", onsubmit: (event) => { event.preventDefault(); if (field.value.trim()) signIn(field.value.trim()); } },
    h("h1", { tabindex: "-1" }, "Sign in"),
    problem && h("p", { class: "note bad", role: "alert" }, problem),
    h("label", { for: "token" }, "API token"),
    field,
    h("p", { class: "hint" }, "An administrator makes one in Settings. It stays in this tab and is forgotten with it."),
    h("button", { class: "primary", type: "submit" }, "Sign in"),
  );
  return { element: form, hideTitle: true, enter: () => field.focus() };
}
