"""Waiting for facts on Wine, where a process takes a second to start and this machine may be busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 300.0


async def eventually(fact: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < end, f"never came true: {what}"
        await asyncio.sleep(0.05)
