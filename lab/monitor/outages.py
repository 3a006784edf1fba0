"""Azure Monitor away on demand: a source answers an error, or hangs first.

Resource Health is a part of ARM, and ARM has faults of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lab.control import CommandRefused

METRICS: Final = "metrics"
LOGS: Final = "logs"
SOURCES: Final = (METRICS, LOGS)
MAX_HANG_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Outage:
    """`hang_s` before the answer `status`."""

    status: int = 503
    hang_s: float = 0.0


class Outages:
    def __init__(self) -> None:
        self._away: dict[str, Outage] = {}

    def of(self, source: str) -> Outage | None:
        return self._away.get(source)

    def commands(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        return {"outage": self.begin, "outage-over": self.end}

    async def begin(self, source: str, status: int = 503, hang_s: float = 0.0) -> str:
        if source not in SOURCES:
            near = difflib.get_close_matches(source, SOURCES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CommandRefused(f"no source {source!r}; there are {', '.join(SOURCES)}{hint}")
        if not 400 <= status <= 599 or not 0 <= hang_s <= MAX_HANG_S:
            raise CommandRefused(f"status {status}, {hang_s:g} s: give an error status and 0 to {MAX_HANG_S:g} s")
        self._away[source] = Outage(status, hang_s)
        return f"{source} answers {status}" + (f" after {hang_s:g} s" if hang_s else "")

    async def end(self) -> str:
        self._away.clear()
        return "Azure Monitor answers"
