"""The control plane's console in a real browser: what a person sees and does, and what it never does.

Every tab is watched (`watched`): no console error, no violation of the content policy, no request to another origin.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from mirror_agent.contract import Role
from playwright.async_api import Browser, expect

from shared.model.principal import AccessRole
from tests.control_plane_samples import SSH_KEY
from tests.lab.browser.stage import ADMIN, Stage
from tests.lab.browser.watched import watched

pytestmark = [pytest.mark.azurite, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
REFUSED = ("401", "403")  # Chromium reports an expected refusal of a request on its console


def journal(stage: Stage) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(stage.call("GET", "journal?top=100").body)["value"]
    return entries


async def test_signing_in_and_out(stage: Stage, chromium: Browser) -> None:
    async with watched(chromium, stage.url, None, expected=REFUSED) as tab:
        page = tab.page
        await page.goto(stage.url)
        await page.get_by_label("API token").fill("mp_wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not valid")
        await page.get_by_label("API token").fill(ADMIN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Fleet", level=1)).to_be_visible()
        await expect(page.locator("#bar")).to_contain_text("bootstrap token (Admin)")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API token")).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("API token")).to_be_visible()


async def test_the_fleet_shows_the_worst_first_and_filters(stage: Stage, chromium: Browser) -> None:
    for name, state in (("fleet-calm", "healthy"), ("fleet-gone", "down"), ("fleet-lone", "exposed")):
        record = await stage.cluster(name)
        await stage.audited(record, state, f"it is {state}", {"a": "healthy", "b": "unknown"})
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(stage.url)
        await page.get_by_label("Search by name").fill("fleet-")
        rows = page.locator("tbody tr")
        await expect(page.locator("tbody th")).to_have_text(["fleet-gone", "fleet-lone", "fleet-calm"])
        await page.get_by_role("button", name="exposed").click()
        await expect(rows).to_have_count(1)
        await expect(rows.first).to_contain_text("it is exposed")
        assert await tab.barriers() == []
        await page.get_by_role("link", name="fleet-lone").click()
        await expect(page.get_by_role("heading", name="Cluster fleet-lone")).to_be_visible()


async def test_a_large_fleet_is_turned_page_by_page(stage: Stage, chromium: Browser) -> None:
    await stage.copies(await stage.cluster("many"), 120)
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(stage.url)
        await page.get_by_label("Search by name").fill("many-")
        await page.get_by_label("Order").select_option("name")
        foot = page.get_by_label("Pages")
        await expect(foot).to_contain_text("1 to 50 of 120")
        await foot.get_by_role("button", name="Next").click()
        await foot.get_by_role("button", name="Next").click()
        await expect(foot).to_contain_text("101 to 120 of 120")
        await expect(page.locator("tbody tr")).to_have_count(20)
        await expect(foot.get_by_role("button", name="Next")).to_have_count(0)
        await foot.get_by_role("button", name="Back").click()
        await expect(page.locator("tbody tr").first).to_contain_text("many-050")
        await page.get_by_label("Search by name").fill("many-007")
        await expect(foot).to_contain_text("1 to 1 of 1")


async def test_a_failover_is_seen_as_it_happens(stage: Stage, chromium: Browser) -> None:
    record = await stage.cluster("story")
    stage.in_sync("story")
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/story")
        summary = page.get_by_label("Summary")
        await expect(summary).to_contain_text("Every acknowledged write is on both nodes")
        await expect(page.get_by_label("Node a", exact=True)).to_contain_text("The virtual IP leads here")
        await expect(page.get_by_label("Nodes", exact=True)).to_contain_text("acknowledged in 0.6 ms")
        assert await tab.barriers() == []
        # The primary dies: the other node says that it serves alone. No reload.
        stage.beat("story", "a", Role.STOP, epoch=3, probe_ok=False, rule="stopped", sentence="stopped")
        stage.exposed("story")
        await stage.audited(record, "exposed", "node b serves without a replica", {"a": "down", "b": "exposed"})
        await stage.firing(record, "exposed-too-long", "story has been exposed for 75 s")
        await expect(summary).to_contain_text("Only node b has the newest writes")
        await expect(summary).to_contain_text(re.compile(r"Exposed for 1 min \d+ s|Exposed for 1 min"))
        await expect(page.get_by_label("Alerts", exact=True)).to_contain_text("story has been exposed for 75 s")
        await expect(page.get_by_role("button", name="Swap")).to_be_disabled()
        await expect(page.locator("#why-swap")).to_contain_text("Only a pair in sync can swap")
        await expect(page.get_by_label("Node b", exact=True)).to_contain_text("The virtual IP leads here")
        # The other one comes back and is filled.
        stage.exposed("story", resync=(300 << 20, 1 << 30))
        await expect(page.get_by_label("Nodes", exact=True)).to_contain_text("29 % of 1.0 GiB")
        stage.in_sync("story", epoch=5)
        await expect(summary).to_contain_text("Every acknowledged write is on both nodes")
        happened = page.get_by_label("What happened")
        await expect(happened).to_contain_text("Node b: SECOND → ALONE")
        await expect(happened).to_contain_text("take-over")
        assert await tab.barriers() == []


async def test_a_swap_by_button_leaves_who_and_why(stage: Stage, chromium: Browser) -> None:
    await stage.cluster("swapped")
    stage.in_sync("swapped")
    async with watched(chromium, stage.url, stage.token(AccessRole.CONTROL)) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/swapped")
        await page.get_by_role("button", name="Swap").click()
        box = page.get_by_role("dialog")
        await expect(box).to_contain_text("Node b becomes PRIM, node a becomes SECOND")
        assert await tab.barriers() == []
        await box.get_by_label("Reason").fill("patch day")
        await box.get_by_role("button", name="Swap").click()
        await expect(page.get_by_label("Operation")).to_contain_text("swap")
        await expect(page.get_by_role("button", name="Swap")).to_be_disabled()
        await expect(page.get_by_label("What happened")).to_contain_text("Control of the tests: swap")
    entry = next(entry for entry in journal(stage) if entry["cluster"] == "swapped" and "swap" in entry["what"])
    assert (entry["reason"], entry["result"], entry["principalName"]) == (
        "patch day",
        "accepted",
        "Control of the tests",
    )


async def test_a_dangerous_action_wants_the_name(stage: Stage, chromium: Browser) -> None:
    await stage.cluster("careful")
    stage.in_sync("careful")
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/careful")
        await page.get_by_role("button", name="Delete").click()
        box = page.get_by_role("dialog")
        await expect(box.get_by_role("button", name="Delete")).to_be_disabled()
        await box.get_by_label("Type careful to go on").fill("carefull")
        await expect(box.get_by_role("button", name="Delete")).to_be_disabled()
        await box.get_by_role("button", name="Cancel").click()
        await expect(box).to_have_count(0)
    assert not any(entry["what"] == "cluster_delete" for entry in journal(stage))


async def test_a_monitor_sees_everything_and_changes_nothing(stage: Stage, chromium: Browser) -> None:
    record = await stage.cluster("watched")
    stage.in_sync("watched")
    await stage.firing(record, "node-down", "node b does not answer")
    token = stage.token(AccessRole.MONITOR)
    async with watched(chromium, stage.url, token) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/watched")
        buttons = page.get_by_label("Actions").get_by_role("button")
        await expect(buttons).to_have_count(5)
        for button in await buttons.all():
            await expect(button).to_be_disabled()
        await expect(page.locator("#why-stop")).to_contain_text("role Control")
        await page.get_by_role("link", name="Alerts").click()
        await expect(page.get_by_text("node b does not answer")).to_be_visible()
        await expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
        await page.get_by_role("link", name="Settings").click()
        await expect(page.get_by_text("managed by an administrator")).to_be_visible()
    assert stage.call("POST", "clusters/watched:swap", {}, token=token).status == 403


async def test_an_alert_is_acknowledged(stage: Stage, chromium: Browser) -> None:
    record = await stage.cluster("paged")
    await stage.firing(record, "cluster-down", "nobody serves paged")
    async with watched(chromium, stage.url, stage.token(AccessRole.CONTROL)) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/alerts")
        row = page.locator("tr", has_text="nobody serves paged")
        await row.get_by_role("button", name="Acknowledge").click()
        await page.get_by_role("dialog").get_by_label("Reason").fill("I am on it")
        await page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
        await expect(row).to_contain_text("acknowledged")
        await expect(row).to_contain_text("I am on it")
        await page.get_by_label("Cluster", exact=True).fill("paged")
        await page.get_by_label("Why").fill("known since noon")
        await page.get_by_role("button", name="Silence").click()
        await expect(page.get_by_label("Silences")).to_contain_text("known since noon")
        assert await tab.barriers() == []


async def test_a_cluster_is_created_by_the_form(stage: Stage, chromium: Browser) -> None:
    async with watched(chromium, stage.url, ADMIN, expected=("400",)) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/new")
        await page.get_by_label("Name", exact=True).fill("by-form")
        await page.get_by_label("SSH public key").fill("ssh-ed25519 nonsense")
        await expect(page.get_by_label("The same as a request")).to_contain_text("/api/clusters/by-form?api-version")
        assert await tab.barriers() == []
        await page.get_by_role("button", name="Create the cluster").click()
        await expect(page.get_by_role("alert")).to_contain_text("compute.sshPublicKey")
        await page.get_by_label("SSH public key").fill(SSH_KEY)
        await page.get_by_role("button", name="Create the cluster").click()
        await expect(page.get_by_role("heading", name="Cluster by-form")).to_be_visible()
        await expect(page.get_by_label("Operation")).to_contain_text("create")
    spec = json.loads(stage.call("GET", "clusters/by-form").body)
    assert spec["application"]["replicatedPaths"] == [{"path": "/data/app", "mode": "strict"}]


async def test_a_token_is_shown_once_and_removed(stage: Stage, chromium: Browser) -> None:
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/settings")
        await page.get_by_label("Name").fill("ci of the browser")
        await page.get_by_role("button", name="Make a token").click()
        secret = await page.get_by_role("dialog").locator(".secret").inner_text()
        assert stage.call("GET", "me", token=secret).status == 200
        # in the turn of the click itself: no later one may still find the secret on the page
        left = await page.get_by_role("button", name="I have kept it").evaluate(
            "(button) => { button.click(); return document.documentElement.outerHTML; }"
        )
        assert secret not in left
        row = page.locator("tr", has_text="ci of the browser")
        await expect(row).to_be_visible()
        assert await tab.barriers() == []
        await row.get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await expect(row).to_have_count(0)
        assert stage.call("GET", "me", token=secret).status == 401


async def test_access_is_given_by_a_link_that_works_once(stage: Stage, chromium: Browser, tmp_path: Path) -> None:
    await stage.cluster("access")
    stage.in_sync("access")
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/access")
        await page.get_by_label("Who").fill("ann@example.org")
        await page.get_by_label("Role on the nodes").select_option("Control")
        await page.get_by_role("button", name="Make a one-time link").click()
        link = await page.get_by_role("dialog").locator(".secret").inner_text()
        await page.get_by_role("button", name="I have kept it").click()
        row = page.locator("tr", has_text="ann@example.org")
        await expect(row).to_contain_text("offered")
    here = stage.url + link.removeprefix("https://control.example.org")
    async with watched(chromium, stage.url, None) as tab:
        page = tab.page
        await page.goto(here)
        assert await tab.barriers() == []
        await page.get_by_role("button", name="Download my certificate").click()
        password = await page.locator("#password").inner_text()
        async with page.expect_download() as got:
            await page.get_by_role("link", name="Certificate and key (.p12)").click()
        await (await got.value).save_as(tmp_path / "ann.p12")
        _, certificate, chain = pkcs12.load_key_and_certificates((tmp_path / "ann.p12").read_bytes(), password.encode())
        assert certificate is not None
        assert certificate.issuer == chain[0].subject
        assert "mpc_" not in page.url
        assert await tab.barriers() == []
    async with watched(chromium, stage.url, None, expected=REFUSED) as tab:
        await tab.page.goto(here)
        await tab.page.get_by_role("button", name="Download my certificate").click()
        await expect(tab.page.get_by_role("alert")).to_contain_text("was used already")
    async with watched(chromium, stage.url, ADMIN) as tab:
        row = tab.page.locator("tr", has_text="ann@example.org")
        await tab.page.goto(f"{stage.url}/#/clusters/access")
        await expect(row).to_contain_text("downloaded")
        await row.get_by_role("button", name="Revoke").click()
        await tab.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(row).to_contain_text("revoked")


async def test_the_keyboard_is_enough(stage: Stage, chromium: Browser) -> None:
    await stage.cluster("keys")
    stage.in_sync("keys")
    async with watched(chromium, stage.url, ADMIN) as tab:
        page = tab.page
        await page.goto(f"{stage.url}/#/clusters/keys")
        await expect(page.get_by_role("button", name="Swap")).to_be_enabled()
        await page.locator("#act-swap").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert await page.evaluate("() => document.activeElement.id") == "act-swap"


async def test_text_from_the_api_is_never_markup(stage: Stage, chromium: Browser) -> None:
    record = await stage.cluster("markup")
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    stage.beat("markup", "a", Role.WAIT, epoch=1, probe_ok=False, sentence=text, rule="<i>rule</i>")
    await stage.audited(record, "unknown", text, {"a": "unknown", "b": "unknown"})
    async with watched(chromium, stage.url, ADMIN) as tab:
        await tab.page.goto(f"{stage.url}/#/clusters/markup")
        await expect(tab.page.get_by_label("Node a", exact=True)).to_contain_text("<b>bold</b>")
        assert await tab.page.locator("main b, main i, main img").count() == 0
