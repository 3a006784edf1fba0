"""What is due when: the earliest first, and of what is due at the same time the first that was put in."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Work = Callable[[], None]


class Agenda:
    """On `heapq`, the quickest there is for plain code; `agenda_native` takes its place in the compiled simulator."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Work]] = []
        self.number = 0

    def put(self, at: float, work: Work) -> None:
        self.number += 1
        heapq.heappush(self.heap, (at, self.number, work))

    def due(self, until: float) -> bool:
        return bool(self.heap) and self.heap[0][0] <= until

    def take(self) -> tuple[float, Work]:
        """The next thing, and when it is due. IndexError when there is none."""
        at, _, work = heapq.heappop(self.heap)
        return at, work
