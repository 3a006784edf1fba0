"""The consoles against a real cluster in the lab, from an empty fleet to a deleted cluster, by hand as it were.

`make browser`; minutes, so not part of `make test`. One test, because each chapter starts from what the last one left.
Every tab is watched: no error on its console, no violation of its policy, no request to another origin; axe-core is
asked on every page. What the page shows of a failover is measured against the node's own record of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from playwright.async_api import Browser, Page, expect

from lab.demo.api import ControlPlane
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from tests.lab.browser.flow import at_the_node, chapters
from tests.lab.browser.flow.chapters import NAME
from tests.lab.browser.flow.portal import power_off
from tests.lab.browser.watched import Watched, watched
from tests.lab.own_lab import own_lab

if TYPE_CHECKING:
    from playwright._impl._api_structures import ClientCertificate

pytestmark = [pytest.mark.lab, pytest.mark.browser, pytest.mark.flow, pytest.mark.asyncio(loop_scope="session")]
# From the node's own record to the page.
SEEN_WITHIN_S: Final = 3.0
REFUSED: Final = ("401", "403")  # Chromium reports an expected refusal of a request on its console


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabInfo]:
    with own_lab(tmp_path) as info:
        yield info


async def test_from_an_empty_fleet_to_a_deleted_cluster(lab: LabInfo, tmp_path: Path, chromium: Browser) -> None:
    assert lab.control_plane_url is not None
    url, admin = lab.control_plane_url, lab.read_tokens().admin
    nodes = Nodes(lab, tmp_path, NAME)
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {what}", flush=True)

    async with watched(chromium, url, None, expected=REFUSED) as tab:
        page = tab.page
        await chapters.sign_in(page, url, admin)
        await chapters.create_by_the_form(page)
        tell("created by the form, in sync")
        await no_barriers(tab)
        moments = await chapters.lose_the_primary(page, nodes)
        tell(
            f"killed the primary; the record names the other one {moments.published - moments.killed:.2f} s later, "
            f"the page says exposed {moments.page_exposed - moments.published:.2f} s after that; it serves "
            f"{moments.serves - moments.killed:.2f} s after the kill, the page says so "
            f"{moments.page_leads_here - moments.serves:.2f} s later"
        )
        assert moments.page_exposed - moments.published < SEEN_WITHIN_S
        assert moments.page_leads_here - moments.serves < SEEN_WITHIN_S
        await no_barriers(tab)
        tell(f"resync, as the page said it: {await chapters.watch_the_resync(page, nodes)}")
        took_s = await chapters.swap_by_button(page)
        tell(f"swapped by button, shown {took_s:.1f} s after the press")
        links = {
            role: await chapters.give_access(page, who, role) for who, role in (("ann", "Admin"), ("max", "Monitor"))
        }
        await no_barriers(tab)
        address = (await page.get_by_label("Summary").get_by_text("198.18.").inner_text()).strip()
    await visit_the_nodes(chromium, url, f"https://{address}:{at_the_node.CONSOLE_PORT}", links, tmp_path, tell)
    async with watched(chromium, url, admin) as tab:
        page = tab.page
        await page.goto(f"{url}/#/clusters/{NAME}")
        replica = "b" if await chapters.serving(page) == "a" else "a"
        await power_off(lab, NAME, replica)
        tell("the replica's machine was stopped in Azure itself; the alert about what is exposed waits two minutes")
        await a_monitor_only_looks(chromium, url, admin, str(lab.ca), tell)
        await page.goto(f"{url}/#/journal")
        await expect(page.get_by_text("tried by a person")).to_be_visible()
        # what was ordered at the nodes' console is here as well, once
        ordered = page.locator("tr", has_text="at the node: checkers-off")
        await expect(ordered).to_have_count(1)
        for word in ("ann (Admin) through shop-", "certificate:", "looking at something", "done"):
            await expect(ordered).to_contain_text(word)
        await no_barriers(tab)
        await chapters.acknowledge(page, "cluster-exposed")
        await no_barriers(tab)
        tell("the alert came and is acknowledged")
        await page.goto(f"{url}/#/clusters/{NAME}")
        tab.expected = ("404",)  # how the page learns that its cluster is gone
        await chapters.delete_by_button(page)
        tell("deleted by button")


async def visit_the_nodes(
    chromium: Browser, url: str, origin: str, links: dict[str, str], directory: Path, tell: Callable[[str], None]
) -> None:
    for who, role in (("ann", "Admin"), ("max", "Monitor")):
        file = directory / f"{who}.p12"
        async with watched(chromium, url, None) as tab:
            password = await chapters.download(tab.page, links[role], file)
            await no_barriers(tab)
        async with watched(chromium, url, None, expected=REFUSED) as tab:
            await tab.page.goto(links[role])
            await tab.page.get_by_role("button", name="Download my certificate").click()
            await expect(tab.page.get_by_role("alert")).to_contain_text("was used already")
        certificate: ClientCertificate = {"origin": origin, "pfxPath": file, "passphrase": password}
        async with watched(chromium, origin, None, expected=REFUSED, certificate=certificate) as tab:
            await at_the_node.enter(tab.page, origin, who, role)
            if role == "Monitor":
                await at_the_node.nothing_is_enabled(tab.page)
            else:
                await at_the_node.manage_both(tab.page)
            await no_barriers(tab)
            await at_the_node.test_page(tab.page, origin)
            await no_barriers(tab)
    tell("the nodes' console through the virtual IP, with a certificate; the links' second use was refused")


async def a_monitor_only_looks(chromium: Browser, url: str, admin: str, ca: str, tell: Callable[[str], None]) -> None:
    async with ControlPlane(url, admin, ca) as api:
        _, made, _ = await api.call("POST", "/tokens", {"name": "max", "role": "Monitor"})
    async with watched(chromium, url, str(made["token"]), expected=REFUSED) as tab:
        await tab.page.goto(f"{url}/#/clusters/{NAME}")
        buttons = tab.page.get_by_label("Actions").get_by_role("button")
        await expect(buttons.first).to_be_visible()
        for button in await buttons.all():
            await expect(button).to_be_disabled()
        assert await _swap_status(tab.page) == 403
        await tab.page.goto(f"{url}/#/new")
        await expect(tab.page.get_by_role("button", name="Create the cluster")).to_be_disabled()
    tell("a Monitor sees no action enabled, and the API refuses it")


async def _swap_status(page: Page) -> int:
    status: int = await page.evaluate(
        """(name) => fetch(`/api/clusters/${name}:swap?api-version=2026-11-01`, { method: "POST", body: "{}", headers: {
          "Content-Type": "application/json", Authorization: `Bearer ${sessionStorage.getItem("mirrorplane-token")}`,
        } }).then((answer) => answer.status)""",
        NAME,
    )
    return status


async def no_barriers(tab: Watched) -> None:
    assert await tab.barriers() == []
