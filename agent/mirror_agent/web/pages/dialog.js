// Asking before something happens: what it does, who is told, why; the dangerous ones want the cluster's name typed.

import { h } from "./dom.js";

/** Resolves to the reason given, or null. `confirm`: a text that must be typed first; then a reason must be given too. */
export function ask({ title, effects, action, confirm = null, danger = false }) {
  return new Promise((resolve) => {
    const why = h("input", { id: "ask-why", maxlength: "500", autocomplete: "off" });
    const typed = confirm && h("input", { id: "ask-name", autocomplete: "off", spellcheck: "false" });
    const go = h("button", { type: "submit", class: danger ? "danger" : "primary", disabled: Boolean(confirm) }, action);
    const check = () => { go.disabled = Boolean(confirm) && (typed.value !== confirm || !why.value.trim()); };
    typed?.addEventListener("input", check);
    why.addEventListener("input", check);
    const box = h(
      "dialog",
      { "aria-labelledby": "ask-title", onclose: () => { box.remove(); resolve(box.returnValue === "go" ? why.value.trim() : null); } },
      h(
        "form",
        { onsubmit: (event) => { event.preventDefault(); box.close("go"); } },
        h("h2", { id: "ask-title" }, title),
        h("ul", {}, effects.map((text) => h("li", {}, text))),
        confirm && h("label", { for: "ask-name" }, `Type ${confirm} to go on`),
        typed,
        h("label", { for: "ask-why" }, "Reason (kept in the journal with your name)"),
        why,
        h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => box.close("") }, "Cancel"), go),
      ),
    );
    document.body.append(box);
    box.showModal();
  });
}

/** Shows a secret once. The button takes it off the page at once: the event `close` comes only in a later turn. */
export function showOnce(title, text) {
  const box = h(
    "dialog",
    { "aria-labelledby": "once-title", onclose: () => box.remove() },
    h("h2", { id: "once-title" }, title),
    h("p", {}, "It is shown now and never again."),
    h("pre", { class: "secret", tabindex: "0" }, text),
    h("div", { class: "buttons" }, h("button", { class: "primary", type: "button", onclick: () => { box.close(); box.remove(); } }, "I have kept it")),
  );
  document.body.append(box);
  box.showModal();
}
