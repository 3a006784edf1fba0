"""The console of a farm's node in a browser: what it shows of all nodes, and an order with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.farm.copies import FarmCopies
from mirror_agent.web.shown_configuration import shown_configuration
from playwright.async_api import Browser, expect

from tests.agent_samples import eventually
from tests.lab.browser.node_stage import certificate
from tests.lab.browser.watched import watched
from tests.unit.agent_web.consoles import NodeParts, consoles
from tests.unit.farm.small_farm import SmallFarm

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_node_of_a_farm_is_seen_and_stopped(chromium: Browser, tmp_path: Path) -> None:
    async with SmallFarm(tmp_path / "node").running() as farm:
        await eventually(lambda: farm.node.decision.serves, "it serves")
        parts = NodeParts(
            farm.commands,
            FarmCopies(farm.reporter.metrics),
            shown=shown_configuration(farm.configuration),
            answer=farm.reporter.probe_answer(),
        )
        async with consoles(tmp_path, {"a": parts, "b": parts}) as running:
            tls = certificate(running, "a", "Control")
            async with watched(chromium, running.urls["a"], None, certificate=tls) as tab:
                page = tab.page
                await page.goto(running.urls["a"])
                await expect(page.get_by_label("Summary")).to_contain_text("1 of 3 nodes")
                await expect(page.get_by_label("Node b", exact=True)).to_contain_text("silent")
                await expect(page.locator("#why-start")).to_contain_text("The module runs")
                await page.get_by_text("Configuration of node a").click()
                await expect(page.get_by_text("c: 10.0.0.6")).to_be_visible()
                assert await tab.barriers() == []
                await page.get_by_role("button", name="Stop", exact=True).click()
                box = page.get_by_role("dialog")
                await expect(box).to_contain_text("No other node says that it serves")
                await box.get_by_label("Type demo to go on").fill("demo")
                await box.get_by_label("Reason").fill("maintenance")
                await box.get_by_role("button", name="Stop", exact=True).click()
                await expect(page.get_by_role("status").filter(has_text="is stopped")).to_be_visible()
                await expect(page.get_by_label("Summary")).to_contain_text("takes no clients")
        assert farm.node.decision.rule == "stopped"
        assert "maintenance" in farm.node.decision.sentence
