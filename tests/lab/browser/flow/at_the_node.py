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


async def manage_both(page: Page) -> None:
    """A verify on the serving node; a switch on the other one, passed on by the one that answers."""
    await order(page, "Verify", "after the swap")
    await expect(page.get_by_label("The two copies")).to_contain_text("identical", timeout=DEADLINE_MS)
    other = page.get_by_label("Which node to manage").get_by_role("button").last
    await other.click()
    await expect(page.locator("#why-swap")).to_contain_text("ordered on the serving node", timeout=DEADLINE_MS)
    await order(page, "Checkers off", "looking at something", confirm="shop")
    await expect(page.get_by_label("Checkers", exact=True)).to_contain_text("looking at something")
    await order(page, "Checkers on", "done looking")
    await expect(page.get_by_label("Checkers", exact=True)).not_to_contain_text("switched off")
    log = page.get_by_label("Log", exact=True)
    await page.get_by_label("Only lines with").fill("command.ended")
    await expect(log).to_contain_text("ann (Admin) through shop-")
    await expect(log).to_contain_text("why=looking at something")
    await page.get_by_text("Configuration of node").click()
    await expect(page.get_by_text("/data/shop").first).to_be_visible()


async def order(page: Page, title: str, reason: str, *, confirm: str = "") -> None:
    await page.get_by_role("button", name=title, exact=True).click()
    box = page.get_by_role("dialog")
    if confirm:
        await box.get_by_label(f"Type {confirm} to go on").fill(confirm)
    await box.get_by_label("Reason").fill(reason)
    await box.get_by_role("button", name=title, exact=True).click()
    await expect(page.get_by_role("status").filter(has_text=f"{title} on node")).to_be_visible(timeout=DEADLINE_MS)


async def test_page(page: Page, origin: str) -> None:
    """Says which server answered, and its epoch; for everybody."""
    await page.goto(f"{origin}/mosaic")
    await expect(page.get_by_text("was answered by node")).to_be_visible()
    await expect(page.get_by_text("Epoch", exact=True)).to_be_visible()
