"""Many short clients of a farm: each request on a connection of its own, and what became of it."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp

CLIENTS: Final = 4
PAUSE_S: Final = 0.05
# Longer than the load balancer tries to reach a node, so that its refusal is seen and not our impatience.
TIMEOUT_S: Final = 6.0
QUIET_S: Final = 10.0


@dataclass(frozen=True)
class Request:
    """`node` answered it; "" if nobody did, and then `failure` says what was seen. Times are of one monotonic clock."""

    began: float
    ended: float
    node: str
    failure: str = ""


@dataclass(frozen=True)
class Loss:
    """What clients saw within a period: `last_failed_s` is from its begin to the last begin of a request that failed.
    `silent_s`: the longest time without any answer."""

    requests: int
    failed: int
    last_failed_s: float
    longest_request_s: float
    silent_s: float
    by_node: dict[str, int]
    failures: dict[str, int]

    def document(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failed": self.failed,
            "last_failed_after_s": round(self.last_failed_s, 2),
            "longest_request_s": round(self.longest_request_s, 2),
            "longest_without_an_answer_s": round(self.silent_s, 2),
            "by_node": self.by_node,
            "failures": self.failures,
        }


@dataclass
class Clients:
    """Runs within `async with`."""

    url: str
    seen: list[Request] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._one(), name=f"client-{number}") for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def now(self) -> float:
        for task in self._tasks:
            assert not task.done(), f"a client died: {task}"
        return time.monotonic()

    def nodes_since(self, moment: float) -> set[str]:
        """Who answered requests that began after it."""
        return {request.node for request in self.seen if request.began > moment and request.node}

    def quiet_since(self, moment: float) -> bool:
        """No request that began after it has failed for QUIET_S."""
        last = max(
            (request.ended for request in self.seen if request.began > moment and request.failure), default=moment
        )
        return self.now() - last >= QUIET_S

    def loss(self, since: float, until: float | None = None) -> Loss:
        end = time.monotonic() if until is None else until
        period = [request for request in self.seen if request.ended >= since and request.began <= end]
        failed = [request for request in period if request.failure]
        answered = sorted(request.ended for request in period if request.node)
        moments = [since, *answered, end]
        return Loss(
            requests=len(period),
            failed=len(failed),
            last_failed_s=max((request.began - since for request in failed), default=0.0),
            longest_request_s=max((request.ended - request.began for request in period), default=0.0),
            silent_s=max(after - before for before, after in itertools.pairwise(moments)),
            by_node=_counted(request.node for request in period if request.node),
            failures=_counted(request.failure for request in failed),
        )

    async def _one(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                began = time.monotonic()
                node, failure = await self._ask(session)
                self.seen.append(Request(began, time.monotonic(), node, failure))
                await asyncio.sleep(PAUSE_S)

    async def _ask(self, session: aiohttp.ClientSession) -> tuple[str, str]:
        try:
            async with session.get(self.url) as answer:
                text = await answer.text()
                return (text.strip(), "") if answer.status == 200 else ("", f"status {answer.status}")
        except TimeoutError:
            return "", "no answer"
        except (aiohttp.ClientError, OSError) as error:
            return "", type(error).__name__


def _counted(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))
