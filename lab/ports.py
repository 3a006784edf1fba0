"""Free ports and waiting for a listener."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

POLL_S: Final = 0.02


def free_port(host: str) -> int:
    """A TCP port nobody listens on at `host`. Another process may take it first: bind soon, retry on failure."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def held_ports(host: str, count: int) -> Iterator[tuple[int, ...]]:
    """Ports that nobody else gets meanwhile: they are bound here, and may be listened on by a program of this one's
    that sets SO_REUSEADDR, as asyncio does on Linux. On Windows that means something else: there they are just free."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, 0))
        ports = tuple(one.getsockname()[1] for one in held)
        if os.name == "nt":
            stack.close()
        yield ports


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
