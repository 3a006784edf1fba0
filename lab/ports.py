"""Free ports and waiting for a listener."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

POLL_S: Final = 0.02


def free_port(host: str) -> int:
    """A TCP port nobody listens on at `host`. Another process may take it first: bind soon, retry on failure."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def wait_for_listener(host: str, port: int, *, deadline_s: float, broken: Callable[[], str | None]) -> None:
    """Return when something accepts at host:port.

    `broken` says why it is in vain (the process ended), or None. Raises TimeoutError or ConnectionError.
    """
    end = time.monotonic() + deadline_s
    while True:
        reason = broken()
        if reason is not None:
            raise ConnectionError(f"nothing will listen on {host}:{port}: {reason}")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout=1)
        except (OSError, TimeoutError):
            if time.monotonic() >= end:
                raise TimeoutError(f"nothing listens on {host}:{port} after {deadline_s:g} s") from None
            await asyncio.sleep(POLL_S)
            continue
        writer.close()
        await writer.wait_closed()
        return
