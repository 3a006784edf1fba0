"""What a person does in the nodes' console behind the virtual IP, with the certificate of a one-time link."""

from __future__ import annotations

from typing import Final

from playwright.async_api import Page, expect

CONSOLE_PORT: Final = 9453
DEADLINE_MS: Final = 120_000.0


async def enter(page: Page, origin: str, who: str, role: str) -> None:
    await page.goto(f"{origin}/")
    await expect(page.locator("#bar")).to_contain_text(f"{who} ({role})")
    await expect(page.get_by_label("Nodes", exact=True)).to_contain_text("PRIM ready", timeout=DEADLINE_MS)
    await expect(page.get_by_label("Summary")).to_contain_text("in sync", timeout=DEADLINE_MS)


async def nothing_is_enabled(page: Page) -> None:
    """Every button of an action is disabled and says why; the API refuses as well."""
    buttons = page.get_by_label("Actions").get_by_role("button")
    await expect(buttons.first).to_be_visible()
    for button in await buttons.all():
        await expect(button).to_be_disabled()
    status = await page.evaluate(
        """() => fetch("/api/v1/actions/swap", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: "{}",
        }).then((answer) => answer.status)"""
    )
    assert status == 403
