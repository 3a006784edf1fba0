"""The control plane's own probe of a node: one GET, as the load balancer asks it, with every failure named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from mirror_agent.contract import PROBE_PATH, PROBE_PORT

from shared.model.node_state import ProbeOutcome

PROBE_TIMEOUT_S: Final = 3.0
MAX_ANSWER_BYTES: Final = 1024


@dataclass(frozen=True)
class Probed:
    outcome: ProbeOutcome
    status_code: int | None = None
    latency_ms: float | None = None
    reason: str = ""


class Prober(Protocol):
    async def probe(self, address: str) -> Probed:
        """Never raises: whatever happens is an outcome with a reason."""


class HttpProber:
    """`port` and `elapsed_s` are for tests on a loopback; Azure's are fixed."""

    def __init__(self, *, port: int = PROBE_PORT, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._port = port
        self._elapsed_s = elapsed_s

    async def probe(self, address: str) -> Probed:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}{PROBE_PATH}"
        start = self._elapsed_s()
        # A connection of its own each time: a kept one would not notice that nobody listens any more.
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(url, allow_redirects=False, headers={"Connection": "close"}) as answer,
            ):
                body = await answer.content.read(MAX_ANSWER_BYTES)
                latency_ms = round((self._elapsed_s() - start) * 1000, 1)
                return judged(answer.status, body.decode(errors="replace").strip(), latency_ms)
        except TimeoutError:
            return Probed(ProbeOutcome.TIMEOUT, reason=f"no answer from {address} within {PROBE_TIMEOUT_S:g} s")
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            outcome = ProbeOutcome.REFUSED if refused else ProbeOutcome.UNREACHABLE
            return Probed(outcome, reason=f"{address}: {error.os_error.strerror or error.os_error}")
        except (aiohttp.ClientError, OSError) as error:
            return Probed(ProbeOutcome.UNREACHABLE, reason=f"{address}: {type(error).__name__}: {error}")


def judged(status: int, body: str, latency_ms: float) -> Probed:
    """Only 200 makes the load balancer send traffic; 503 is the answer of a module that lives and does not serve."""
    match status:
        case 200:
            return Probed(ProbeOutcome.SERVING, status, latency_ms, body[:200])
        case 503:
            return Probed(ProbeOutcome.STANDBY, status, latency_ms, body[:200])
        case _:
            return Probed(ProbeOutcome.UNEXPECTED, status, latency_ms, f"status {status}: {body[:200]}")
