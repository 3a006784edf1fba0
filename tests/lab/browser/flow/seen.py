"""When did a page say what? A record kept in the page itself, by the clock the nodes of the lab have as well."""

from __future__ import annotations

from typing import Any, Final

from playwright.async_api import Page

# Parts are looked up anew at every change, since a page replaces them.
_RECORD: Final = """(labels) => {
  const look = () => labels.map((label) => document.querySelector(`[aria-label="${label}"]`)?.textContent ?? "");
  const said = [];
  const note = () => said.push([Date.now() / 1000, Object.fromEntries(look().map((text, at) => [labels[at], text]))]);
  note();
  window.observer?.disconnect();
  window.observer = new MutationObserver(note);
  window.observer.observe(document.body, { subtree: true, childList: true, characterData: true });
  window.said = said;
}"""


async def record(page: Page, *labels: str) -> None:
    """From now on, what the parts of the page with these labels say is kept with the moment."""
    await page.evaluate(_RECORD, list(labels))


async def first_said(page: Page, label: str, text: str) -> float:
    """The moment (seconds since 1970) at which the part first contained `text`; it must have been waited for."""
    said: list[tuple[float, dict[str, Any]]] = await page.evaluate("() => window.said")
    for at, words in said:
        if text in words[label]:
            return at
    raise AssertionError(f"{label!r} never said {text!r}: {[words[label] for _, words in said[-3:]]}")
