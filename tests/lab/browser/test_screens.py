"""Every page of the console in light, dark and phone size: made by each run, looked at by people, free of barriers.

The pictures go to build/screens; `make screenshots` puts the main ones into docs/img.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, expect

from tests.lab.browser.stage import ADMIN, Stage
from tests.lab.browser.watched import PHONE, WIDE, watched
from tests.lab.functions_host.process import REPOSITORY

pytestmark = [pytest.mark.azurite, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SCREENS: Final = Path(os.environ.get("MIRRORPLANE_SCREENS", REPOSITORY / "build" / "screens"))
LOOKS: Final[tuple[tuple[str, bool, ViewportSize], ...]] = (
    ("light", False, WIDE),
    ("dark", True, WIDE),
    ("phone", False, PHONE),
)
# The page's address and a text that is there when it is complete.
PAGES: Final = {
    "fleet": ("#/", "ledger-prod"),
    "cluster": ("#/clusters/ledger-prod", "start → PRIM"),
    "exposed": ("#/clusters/orders", "29 % of 1.0 GiB"),
    "new": ("#/new", "cluster.json"),
    "alerts": ("#/alerts", "node-silent"),
    "journal": ("#/journal", "cluster_put"),
    "settings": ("#/settings", "API tokens"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def fleet(stage: Stage) -> None:
    """A fleet as a team might have one."""
    ledger = await stage.cluster("ledger-prod")
    stage.in_sync("ledger-prod")
    await stage.past(ledger)
    await stage.audited(ledger, "healthy", "both nodes report, the probes agree", {"a": "healthy", "b": "healthy"})
    orders = await stage.cluster("orders")
    stage.exposed("orders", resync=(300 << 20, 1 << 30))
    await stage.audited(orders, "exposed", "node b serves without a replica in sync", {"a": "degraded", "b": "exposed"})
    await stage.firing(orders, "node-silent", "node a of orders was silent for 75 s")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: str(look[0]))
async def test_every_page(stage: Stage, chromium: Browser, look: tuple[str, bool, ViewportSize]) -> None:
    name, dark, viewport = look
    SCREENS.mkdir(parents=True, exist_ok=True)
    async with watched(chromium, stage.url, ADMIN, dark=dark, viewport=viewport) as tab:
        for page, (address, complete) in PAGES.items():
            await tab.page.goto(f"{stage.url}/{address}")
            await expect(tab.page.get_by_text(complete).first).to_be_visible()
            assert await tab.barriers() == [], page
            wide = await tab.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
            assert wide, f"{page} is wider than a {name} screen"
            await tab.page.screenshot(path=SCREENS / f"{page}-{name}.png", full_page=True)
    async with watched(chromium, stage.url, None, dark=dark, viewport=viewport, expected=("401",)) as tab:
        await tab.page.goto(stage.url)
        await expect(tab.page.get_by_label("API token")).to_be_visible()
        assert await tab.barriers() == []
        await tab.page.screenshot(path=SCREENS / f"sign-in-{name}.png", full_page=True)
