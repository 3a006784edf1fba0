"""The fleet page of the console: the first one of a process, which reads all verdicts, and the ones after it."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any, Final

from shared.api.call import Call
from shared.api.fleet import list_fleet
from shared.api.plane import ControlPlane
from shared.console.board import Board
from shared.model.principal import AccessRole, Principal

LOOKS: Final = 20
_SOMEBODY: Final = Principal("bench", "bench", "token", frozenset({AccessRole.MONITOR}))


async def measure_pages(plane: ControlPlane) -> dict[str, Any]:
    """Milliseconds of server time: `first_ms` reads everything; `p50_ms` and `max_ms` while that is fresh."""
    fresh = replace(plane, board=Board())
    first_ms = await _look(fresh, {})
    later = [await _look(fresh, query) for query in ({}, {"search": "99"}, {"order": "newest", "top": "100"}) * LOOKS]
    return {
        "first_ms": round(first_ms, 1),
        "p50_ms": round(statistics.median(later), 1),
        "max_ms": round(max(later), 1),
        "looks": len(later),
    }


async def _look(plane: ControlPlane, query: dict[str, str]) -> float:
    begun = time.perf_counter()
    answer = await list_fleet(plane, _SOMEBODY, Call("GET", "/api/fleet", {}, {}, query, b""))
    if answer.status != 200 or not isinstance(answer.body, dict) or not answer.body["value"]:
        raise RuntimeError(f"the fleet page answered {answer.status} without a cluster")
    return (time.perf_counter() - begun) * 1000
