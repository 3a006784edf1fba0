"""Every page of the console in light, dark and phone size: made by each run, looked at by people, free of barriers.

The pictures go to build/screens; `make screenshots` puts the main ones into docs/img.
"""

from __future__ import annotations

from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, expect

from tests.lab.browser.looks import LOOKS, picture
from tests.lab.browser.stage import ADMIN, Stage
from tests.lab.browser.watched import watched

pytestmark = [pytest.mark.azurite, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
# The page's address and a text that is there when it is complete.
PAGES: Final = {
    "fleet": ("#/", "ledger-prod"),
    "cluster": ("#/clusters/ledger-prod", "start → PRIM"),
    "exposed": ("#/clusters/orders", "29 % of 1.0 GiB"),
    "new": ("#/new", "cluster.json"),
    "alerts": ("#/alerts", "node-silent"),
    "journal": ("#/journal", "create or change"),
    "settings": ("#/settings", "API tokens"),
    "progress": ("#/clusters/begun", "Operation: create"),
}
# The page's address and the button that opens the dialog.
DIALOGS: Final = {
    "swap": ("#/clusters/ledger-prod", "Swap"),
    "stop": ("#/clusters/orders", "Stop"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def fleet(stage: Stage) -> None:
    """A fleet as a team might have one."""
    ledger = await stage.cluster("ledger-prod")
    stage.in_sync("ledger-prod")
    await stage.past(ledger)
    await stage.witnessed(ledger, 3, "a", "a,b")
    await stage.audited(ledger, "healthy", "both nodes report, the probes agree", {"a": "healthy", "b": "healthy"})
    orders = await stage.cluster("orders")
    stage.exposed("orders", resync=(300 << 20, 1 << 30))
    await stage.audited(
        orders, "exposed", "node b serves without a replica in sync", {"a": "degraded", "b": "exposed"}, "b"
    )
    await stage.witnessed(orders, 4, "b", "b")
    await stage.firing(orders, "node-silent", "node a of orders was silent for 75 s")
    await stage.begun("begun")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: str(look[0]))
async def test_every_page(stage: Stage, chromium: Browser, look: tuple[str, bool, ViewportSize]) -> None:
    name, dark, viewport = look
    async with watched(chromium, stage.url, ADMIN, dark=dark, viewport=viewport) as tab:
        for page, (address, complete) in PAGES.items():
            await tab.page.goto(f"{stage.url}/{address}")
            await expect(tab.page.get_by_text(complete).first).to_be_visible()
            await picture(tab, f"{page}-{name}")
        for page, (address, button) in DIALOGS.items():
            await tab.page.goto(f"{stage.url}/{address}")
            await tab.page.get_by_role("button", name=button).first.click()
            await expect(tab.page.get_by_role("dialog")).to_be_visible()
            await picture(tab, f"{page}-{name}", whole=False)
            await tab.page.keyboard.press("Escape")
    async with watched(chromium, stage.url, None, dark=dark, viewport=viewport, expected=("401",)) as tab:
        await tab.page.goto(stage.url)
        await expect(tab.page.get_by_label("API token")).to_be_visible()
        await picture(tab, f"sign-in-{name}")
        await tab.page.goto(await stage.link("ledger-prod", "ann@example.org"))
        await tab.page.get_by_role("button", name="Download my certificate").click()
        await expect(tab.page.locator("#password")).to_be_visible()
        await picture(tab, f"credential-{name}")
