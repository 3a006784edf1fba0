"""The nodes' console in a browser: both nodes seen and managed from either, what is dangerous, what a Monitor may."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.web.actions import NodeRequest
from playwright.async_api import Browser, expect

from tests.lab.browser.node_stage import certificate, exposed, in_sync, parts_of
from tests.lab.browser.watched import watched
from tests.unit.agent_web.consoles import consoles

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_both_nodes_are_managed_from_one(chromium: Browser, tmp_path: Path) -> None:
    nodes = in_sync()
    async with consoles(tmp_path, {name: parts_of(node) for name, node in nodes.items()}) as running:
        tls = certificate(running, "a", "Admin")
        async with watched(chromium, running.urls["a"], None, certificate=tls) as tab:
            page = tab.page
            await page.goto(running.urls["a"])
            await expect(page.get_by_label("Summary")).to_contain_text("Every acknowledged write is on both nodes")
            await expect(page.get_by_label("Node a", exact=True)).to_contain_text("The virtual IP leads here")
            await expect(page.get_by_label("Node b", exact=True)).to_contain_text("SECOND ready")
            await expect(page.get_by_label("The two copies")).to_contain_text("identical")
            await page.get_by_label("The two copies").get_by_role("button", name="Verify", exact=True).click()
            await page.get_by_role("dialog").get_by_role("button", name="Verify", exact=True).click()
            await expect(page.get_by_role("status").filter(has_text="it has begun")).to_be_visible()
            await page.get_by_role("button", name="Node b (peer)").or_(page.locator("#choose-b")).click()
            await expect(page.get_by_role("heading", name="Actions on node b")).to_be_visible()
            await expect(page.locator("#why-swap")).to_contain_text("ordered on the serving node")
            await page.get_by_text("Configuration of node b").click()
            await expect(page.get_by_text("/opt/ledger/start.sh")).to_be_visible()
            await page.get_by_text("Quarantine of node b").click()
            await expect(page.get_by_label("Quarantine", exact=True)).to_contain_text("/data/ledger/ledger.db")
            await page.get_by_label("Only lines with").fill("probe")
            await expect(page.get_by_label("Log", exact=True).get_by_role("listitem")).to_have_count(1)
            assert await tab.barriers() == []
            await page.get_by_role("button", name="Stop", exact=True).click()
            box = page.get_by_role("dialog")
            await expect(box).to_contain_text("Node a goes on serving, alone")
            assert await tab.barriers() == []
            go = box.get_by_role("button", name="Stop", exact=True)
            await box.get_by_label("Type demo to go on").fill("demo")
            await expect(go).to_be_disabled()
            await box.get_by_label("Reason").fill("new disk")
            await go.click()
            await expect(page.get_by_role("status").filter(has_text="stop is done")).to_be_visible()
    [asked] = nodes["b"].asked
    assert isinstance(asked, NodeRequest)
    assert (asked.action.value, asked.who, asked.why) == ("stop", "ann (Admin) through demo-a", "new disk")
    assert [type(entry).__name__ for entry in nodes["a"].asked] == ["MirrorRequest"]


async def test_a_forced_start_says_what_would_be_lost(chromium: Browser, tmp_path: Path) -> None:
    nodes = exposed()
    async with consoles(tmp_path, {name: parts_of(node) for name, node in nodes.items()}) as running:
        tls = certificate(running, "a", "Admin")
        async with watched(chromium, running.urls["a"], None, certificate=tls) as tab:
            page = tab.page
            await page.goto(running.urls["a"])
            await expect(page.get_by_label("Summary")).to_contain_text("Only node b has the newest writes")
            await expect(page.get_by_label("Summary")).to_contain_text("Exposed for 3 min")
            await page.get_by_role("button", name="Force primary").click()
            box = page.get_by_role("dialog")
            await expect(box).to_contain_text("only node b holds every acknowledged write; node a does not")
            await expect(box).to_contain_text("node b has noted changes of 312 files (40.0 MiB)")
            await expect(box).to_contain_text("kept in node b's quarantine")
            await expect(box.get_by_role("button", name="Force primary")).to_be_disabled()
            await page.keyboard.press("Escape")
            await expect(box).to_have_count(0)
            # The other node falls silent: that is said, and nothing is asked of it.
            tab.expected = ("502",)
            nodes["a"].peer_alive = False
            await running.running["b"].stop()
            await expect(page.get_by_label("Node b", exact=True)).to_contain_text("silent, was ALONE")
            await page.locator("#choose-b").click()
            await expect(page.locator("#why-stop")).to_contain_text("node b does not answer")
    assert nodes["a"].asked == []


async def test_a_monitor_sees_no_action_enabled(chromium: Browser, tmp_path: Path) -> None:
    nodes = in_sync()
    async with consoles(tmp_path, {name: parts_of(node) for name, node in nodes.items()}) as running:
        tls = certificate(running, "b", "Monitor")
        async with watched(chromium, running.urls["b"], None, certificate=tls, expected=("403",)) as tab:
            page = tab.page
            await page.goto(running.urls["b"])
            for node in ("b", "a"):
                await page.locator(f"#choose-{node}").click()
                await expect(page.get_by_role("heading", name=f"Actions on node {node}")).to_be_visible()
                await expect(page.locator("#why-stop")).to_contain_text("role Control")
                for button in await page.locator("button[id^=act-]").all():
                    await expect(button).to_be_disabled()
                for path in ("actions", "peer/actions"):
                    status = await page.evaluate(
                        """(path) => fetch(`/api/v1/${path}/stop`, { method: "POST", body: "{}",
                          headers: { "Content-Type": "application/json" } }).then((answer) => answer.status)""",
                        path,
                    )
                    assert status == 403
    assert nodes["a"].asked == nodes["b"].asked == []
