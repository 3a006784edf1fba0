"""What a person does in the control plane's console, one chapter each; every end is a fact the page shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Page, expect

from lab.demo.nodes import Nodes, moment
from tests.lab.browser.flow.seen import first_said, record

NAME: Final = "shop"
PORT: Final = 8080
LONG_MS: Final = 300_000.0
# A web server over the replicated directory; the script ends when it listens.
START: Final = f"""cd /data/shop
setsid python3 -m http.server {PORT} </dev/null >/var/log/shop.log 2>&1 &
for _ in $(seq 300); do
    python3 -c 'import socket; socket.create_connection(("127.0.0.1", {PORT}), 1).close()' 2>/dev/null && exit 0
    sleep 0.1
done
exit 1
"""
STOP: Final = f"pkill -TERM -f 'http.server {PORT}' || true\n"
# Enough for a resynchronisation that a person sees going on.
MISSED_MIB: Final = 512


@dataclass(frozen=True)
class Moments:
    """Of the failover, seconds since 1970: by the node's own record, and on the page."""

    killed: float
    published: float
    serves: float
    page_exposed: float
    page_leads_here: float


async def sign_in(page: Page, url: str, token: str) -> None:
    await page.goto(url)
    await page.get_by_label("API token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Fleet", level=1)).to_be_visible()


async def create_by_the_form(page: Page) -> None:
    """Until the page says that every write is on both nodes."""
    await page.get_by_role("link", name="New cluster").click()
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    for label, text in (
        ("Name", NAME),
        ("SSH public key of the administrator", key),
        ("Service port, the same outside and inside", str(PORT)),
        ("Name of the application", "shop"),
        ("Replicated directory", "/data/shop"),
        ("start_prim: starts the application, returns when it runs", START),
        ("stop_prim: stops it", STOP),
    ):
        await page.get_by_label(label, exact=True).fill(text)
    await page.get_by_role("button", name="Create the cluster").click()
    await expect(page.get_by_role("heading", name=f"Cluster {NAME}")).to_be_visible()
    await expect(page.get_by_label("Operation", exact=True)).to_contain_text("create")
    await in_sync(page)


async def in_sync(page: Page) -> None:
    summary = page.get_by_label("Summary")
    await expect(summary).to_contain_text("Every acknowledged write is on both nodes", timeout=LONG_MS)


async def serving(page: Page) -> str:
    """The node the page shows the virtual IP leading to."""
    card = page.locator("article.serving")
    await expect(card).to_have_count(1)
    return "a" if await page.get_by_label("Node a", exact=True).locator(".vip").count() else "b"


async def lose_the_primary(page: Page, nodes: Nodes) -> Moments:
    victim = await serving(page)
    survivor = "b" if victim == "a" else "a"
    await record(page, "Summary", f"Node {survivor}")
    killed = time.time()
    await nodes.kill(victim)
    await expect(page.get_by_label("Summary")).to_contain_text(f"Only node {survivor} has the newest writes")
    await expect(page.get_by_label(f"Node {survivor}", exact=True)).to_contain_text("The virtual IP leads here")
    events = await nodes.events(survivor, killed)

    def at(kind: str, **fields: Any) -> float:
        return next(moment(event) for event in events if event["kind"] == kind and fields.items() <= event.items())

    return Moments(
        killed=killed,
        published=at("witness.write", outcome="won"),
        serves=at("probe.ok"),
        page_exposed=await first_said(page, "Summary", "has the newest writes"),
        page_leads_here=await first_said(page, f"Node {survivor}", "The virtual IP leads here"),
    )


async def watch_the_resync(page: Page, nodes: Nodes) -> str:
    """The lost node comes back and is filled with what it missed; answers what the page said while that went on."""
    survivor = await serving(page)
    lost = "b" if survivor == "a" else "a"
    filled = f"dd if=/dev/urandom of=/data/shop/missed bs=1M count={MISSED_MIB} conv=fsync status=none"
    await nodes.run(survivor, "sh", "-c", filled)
    await nodes.start(lost)
    nodes_part = page.get_by_label("Nodes", exact=True)
    await expect(nodes_part).to_contain_text("resynchronising", timeout=LONG_MS)
    await expect(nodes_part.locator("progress")).to_be_visible(timeout=LONG_MS)
    said = await nodes_part.locator(".link").inner_text()
    await in_sync(page)
    return " ".join(said.split())


async def swap_by_button(page: Page) -> float:
    """Seconds from the press of the button until the page shows the other node serving in sync."""
    before = await serving(page)
    after = "b" if before == "a" else "a"
    await expect(page.get_by_role("button", name="Swap")).to_be_enabled(timeout=LONG_MS)
    await page.get_by_role("button", name="Swap").click()
    box = page.get_by_role("dialog")
    await expect(box).to_contain_text(f"Node {after} becomes PRIM, node {before} becomes SECOND")
    await box.get_by_label("Reason").fill("tried by a person")
    began = time.monotonic()
    await box.get_by_role("button", name="Swap").click()
    card = page.get_by_label(f"Node {after}", exact=True)
    await expect(card).to_contain_text("The virtual IP leads here", timeout=LONG_MS)
    await expect(card).to_contain_text("PRIM ready", timeout=LONG_MS)
    took_s = time.monotonic() - began
    await in_sync(page)
    await expect(page.get_by_label("What happened")).to_contain_text("tried by a person")
    return took_s


async def acknowledge(page: Page, what: str) -> None:
    """The alert must come by itself; it is taken with a note."""
    await page.get_by_role("link", name="Alerts", exact=True).click()
    row = page.get_by_label("Open alerts").locator("tr", has_text=what)
    await row.get_by_role("button", name="Acknowledge").click(timeout=LONG_MS)
    box = page.get_by_role("dialog")
    await box.get_by_label("Reason").fill("it was me")
    await box.get_by_role("button", name="Acknowledge").click()
    await expect(row).to_contain_text("acknowledged")
    await expect(row).to_contain_text("it was me")


async def give_access(page: Page, who: str, role: str) -> str:
    """The one-time link, as the page shows it once."""
    await page.get_by_label("Who", exact=True).fill(who)
    await page.get_by_label("Role on the nodes").select_option(role)
    await page.get_by_role("button", name="Make a one-time link").click()
    link = await page.get_by_role("dialog").locator(".secret").inner_text()
    await page.get_by_role("button", name="I have kept it").click()
    await expect(page.locator("tr", has_text=who)).to_contain_text("offered")
    return link.strip()


async def download(page: Page, link: str, to: Path) -> str:
    """Presses the button behind the link, saves the .p12; answers its password."""
    await page.goto(link)
    await page.get_by_role("button", name="Download my certificate").click()
    password = await page.locator("#password").inner_text()
    async with page.expect_download() as got:
        await page.get_by_role("link", name="Certificate and key (.p12)").click()
    await (await got.value).save_as(to)
    return password


async def delete_by_button(page: Page) -> None:
    await page.get_by_role("button", name="Delete").click()
    box = page.get_by_role("dialog")
    await expect(box.get_by_role("button", name="Delete")).to_be_disabled()
    await box.get_by_label(f"Type {NAME} to go on").fill(NAME)
    await box.get_by_label("Reason").fill("the end of the flow")
    await box.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text(f"There is no cluster {NAME} (any more).")).to_be_visible(timeout=LONG_MS)
