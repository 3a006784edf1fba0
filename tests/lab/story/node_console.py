"""A person's way to the nodes: credential link, download, console through the virtual IP in a browser, revocation."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any, Final

import aiohttp
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from lab.demo.api import ControlPlane
from lab.info import LabInfo
from tests.lab.browser.watched import FLAGS, Watched, chromium_path

CONSOLE_PORT: Final = 9453
DEADLINE_MS: Final = 90_000


async def visit_the_node(api: ControlPlane, lab: LabInfo, cluster: str, address: str, directory: Path) -> None:
    """Fails when the console cannot be used with the certificate, or can be used without it, or after its end."""
    _, link, _ = await api.call("POST", f"/clusters/{cluster}/credentials", {"name": "ann", "role": "Control"})
    files = await _download(api.url, str(lab.ca), str(link["url"]).partition("/#/credential/")[2])
    pfx = directory / "ann.p12"
    pfx.write_bytes(base64.b64decode(files["pkcs12"]))
    origin = f"https://{address}:{CONSOLE_PORT}"
    assert files["consoleUrls"][0] == f"{origin}/"
    expect.set_options(timeout=DEADLINE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        try:
            await _stranger(browser, origin)
            known = await browser.new_context(
                ignore_https_errors=True,  # the authority is the cluster's own; importing it is the person's part
                client_certificates=[{"origin": origin, "pfxPath": pfx, "passphrase": files["password"]}],
            )
            await _ann(known, origin)
            await api.call("DELETE", f"/clusters/{cluster}/credentials/{link['id']}")
            page = known.pages[0]
            await expect(page.get_by_role("alert")).to_contain_text("was revoked")
            await known.close()
        finally:
            await browser.close()


async def _stranger(browser: Browser, origin: str) -> None:
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"{origin}/")
    await expect(page.get_by_text("This node wants a client certificate.")).to_be_visible()
    await page.get_by_role("link", name="The test page").click()
    await expect(page.get_by_text("was answered by node")).to_be_visible()
    await context.close()


async def _ann(context: BrowserContext, origin: str) -> None:
    page = await context.new_page()
    watch = Watched(page, origin, expected=("403",))
    page.on("console", watch.hear)
    page.on("pageerror", lambda error: watch.complaints.append(f"exception: {error}"))
    page.on("request", watch.see)
    await page.goto(f"{origin}/")
    await expect(page.locator("#bar")).to_contain_text("ann (Control)")
    await expect(page.get_by_label("Nodes", exact=True)).to_contain_text("PRIM ready")
    await expect(page.get_by_label("Summary")).to_contain_text("in sync")
    await expect(page.locator("#why-force")).to_contain_text("role Admin")
    await expect(page.get_by_role("button", name="Swap")).to_be_enabled()
    await expect(page.get_by_label("Log", exact=True)).to_contain_text("control-plane")
    assert await watch.barriers() == []
    watch.clean()


async def _download(url: str, ca: str, secret: str) -> dict[str, Any]:
    tls = ssl.create_default_context(cafile=ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        headers = {"Authorization": f"Bearer {secret}"}
        async with session.post(f"{url}/api/credential-downloads", headers=headers) as answer:
            document: dict[str, Any] = await answer.json()
            assert answer.status == 200, document
            return document
