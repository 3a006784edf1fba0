"""Pictures of a page in light, dark and phone size, for people to look at; each is free of barriers and not too wide.

They go to build/screens; `make screenshots` puts the main ones into docs/img.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from playwright.async_api import ViewportSize

from tests.lab.browser.watched import PHONE, WIDE, Watched
from tests.lab.functions_host.process import REPOSITORY

SCREENS: Final = Path(os.environ.get("MIRRORPLANE_SCREENS", REPOSITORY / "build" / "screens"))
LOOKS: Final[tuple[tuple[str, bool, ViewportSize], ...]] = (
    ("light", False, WIDE),
    ("dark", True, WIDE),
    ("phone", False, PHONE),
)


async def picture(tab: Watched, name: str, *, whole: bool = True) -> None:
    """`whole`: the page from top to bottom; else what a screen shows, such as a dialog."""
    barriers = await tab.barriers()
    assert barriers == [], f"{name}: {barriers}"
    fits = await tab.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert fits, f"{name}: the page is wider than the screen"
    SCREENS.mkdir(parents=True, exist_ok=True)
    await tab.page.screenshot(path=SCREENS / f"{name}.png", full_page=whole)
