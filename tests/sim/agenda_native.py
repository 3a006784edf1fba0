"""`agenda` for the compiled simulator: a binary heap whose comparisons mypyc turns into two machine instructions."""

from __future__ import annotations

from collections.abc import Callable

Work = Callable[[], None]


class Due:
    def __init__(self, at: float, number: int, work: Work) -> None:
        self.at, self.number, self.work = at, number, work

    def before(self, other: Due) -> bool:
        return self.at < other.at or (self.at == other.at and self.number < other.number)


class Agenda:
    """The same order as `agenda.Agenda`, which the comparison of traces watches over (`compiled`)."""

    def __init__(self) -> None:
        self.heap: list[Due] = []
        self.number = 0

    def put(self, at: float, work: Work) -> None:
        self.number += 1
        heap, new = self.heap, Due(at, self.number, work)
        place = len(heap)
        heap.append(new)
        while place > 0:
            above = (place - 1) // 2
            parent = heap[above]
            if not new.before(parent):
                break
            heap[place] = parent
            place = above
        heap[place] = new

    def due(self, until: float) -> bool:
        return len(self.heap) > 0 and self.heap[0].at <= until

    def take(self) -> tuple[float, Work]:
        """The next thing, and when it is due. IndexError when there is none."""
        heap = self.heap
        last = heap.pop()
        size = len(heap)
        if size == 0:
            return last.at, last.work
        first, place, below = heap[0], 0, 1
        while below < size:
            child = heap[below]
            if below + 1 < size:
                other = heap[below + 1]
                if other.before(child):
                    child = other
                    below += 1
            if last.before(child):
                break
            heap[place] = child
            place = below
            below = 2 * place + 1
        heap[place] = last
        return first.at, first.work
