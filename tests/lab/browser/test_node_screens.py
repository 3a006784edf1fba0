"""The nodes' console in light, dark and phone size: in sync, exposed, a dangerous question, no access, test page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from tests.lab.browser.looks import LOOKS, picture
from tests.lab.browser.node_stage import certificate, exposed, in_sync, parts_of
from tests.lab.browser.watched import watched
from tests.unit.agent_web.consoles import consoles

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: str(look[0]))
async def test_every_page(chromium: Browser, look: tuple[str, bool, ViewportSize], tmp_path: Path) -> None:
    name, dark, viewport = look
    for state, nodes in (("node", in_sync()), ("node-exposed", exposed())):
        parts = {letter: parts_of(node) for letter, node in nodes.items()}
        async with consoles(tmp_path / state, parts) as running:
            url, tls = running.urls["a"], certificate(running, "a", "Admin")
            async with watched(chromium, url, None, dark=dark, viewport=viewport, certificate=tls) as tab:
                await tab.page.goto(url)
                await expect(tab.page.get_by_label("Log", exact=True)).to_contain_text("witness.write")
                await expect(tab.page.get_by_label("Node b", exact=True)).to_contain_text("(peer)")
                await tab.page.get_by_text("Quarantine of node a").click()
                await expect(tab.page.get_by_label("Quarantine", exact=True)).to_be_visible()
                await picture(tab, f"{state}-{name}")
                if state == "node-exposed":
                    await tab.page.get_by_role("button", name="Force primary").click()
                    await expect(tab.page.get_by_role("dialog")).to_contain_text("312 files")
                    await picture(tab, f"node-force-{name}", whole=False)
            async with watched(chromium, url, None, dark=dark, viewport=viewport, expected=("401",)) as tab:
                await tab.page.goto(url)
                await expect(tab.page.get_by_text("This node wants a client certificate.")).to_be_visible()
                await picture(tab, f"node-no-access-{name}")
                await tab.page.goto(f"{url}/mosaic")
                await picture(tab, f"node-test-page-{name}")
