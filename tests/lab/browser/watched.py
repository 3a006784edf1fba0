"""A page that is watched: errors on its console, violations of its policy, requests that leave its origin."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import axe_playwright_python
from playwright.async_api import Browser, ConsoleMessage, Page, Request, ViewportSize

if TYPE_CHECKING:
    from playwright._impl._api_structures import ClientCertificate

# Root needs no sandbox here; without the others Chromium asks its maker's servers at every start.
FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE: Final[ViewportSize] = {"width": 1280, "height": 900}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
TOKEN_KEY: Final = "mirrorplane-token"
_AXE: Final = Path(axe_playwright_python.__file__).parent / "axe.min.js"
# Labs that come and go beside this one add and remove interfaces, and Chromium then drops the requests under way.
_NOT_OURS: Final = ("net::ERR_NETWORK_CHANGED",)
# What axe calls serious or worse is a barrier for somebody.
_BARRIERS: Final = ("serious", "critical")


def chromium_path() -> str:
    found = shutil.which("chromium")
    assert found is not None, "chromium is not installed (Debian: apt-get install chromium)"
    return found


@dataclass
class Watched:
    """`expected`: parts of messages that belong to the test, such as the 401 of a first visit."""

    page: Page
    origin: str
    expected: tuple[str, ...] = ()
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        known = (*self.expected, *_NOT_OURS)
        if message.type in ("error", "warning") and not any(text in message.text for text in known):
            self.complaints.append(f"{message.type}: {message.text} ({message.location['url']})")

    def see(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.complaints.append(f"a request left the origin: {request.url}")

    async def barriers(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is now."""
        if not await self.page.evaluate("() => 'axe' in window"):
            await self.page.evaluate(_AXE.read_text(encoding="utf-8"))
        # a dialog that still fades in has no contrast yet
        await self.page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")
        found: dict[str, Any] = await self.page.evaluate("() => axe.run(document)")
        return [
            f"{entry['id']} ({entry['impact']}): {entry['nodes'][0]['html']}"
            for entry in found["violations"]
            if entry["impact"] in _BARRIERS
        ]

    def clean(self) -> None:
        assert self.complaints == []


@asynccontextmanager
async def watched(
    browser: Browser,
    origin: str,
    token: str | None,
    *,
    dark: bool = False,
    viewport: ViewportSize = WIDE,
    expected: tuple[str, ...] = (),
    certificate: ClientCertificate | None = None,
) -> AsyncIterator[Watched]:
    """A tab of its own that is signed in with `token`; at the end it must have been clean. The origin's authority need
    not be known: importing it is the person's part."""
    context = await browser.new_context(
        viewport=viewport,
        color_scheme="dark" if dark else "light",
        locale="en-GB",
        ignore_https_errors=True,
        client_certificates=None if certificate is None else [certificate],
    )
    try:
        if token is not None:
            await context.add_init_script(f"sessionStorage.setItem('{TOKEN_KEY}', '{token}')")
        page = await context.new_page()
        page.set_default_timeout(30_000)
        watch = Watched(page, origin, expected)
        page.on("console", watch.hear)
        page.on("pageerror", lambda error: watch.complaints.append(f"exception: {error}"))
        page.on("request", watch.see)
        yield watch
        watch.clean()
    finally:
        await context.close()
