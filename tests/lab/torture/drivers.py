"""One application of the tester: a thread that carries out a seeded stream in a directory and checks every answer.

It runs by itself and is steered from the supervisor's side: `pause` stops it between two operations, an engine's death
halts it with one operation in flight, `recover` gives it the directory in which it goes on and the operations that a
crash undid, which it does again first. Its journal since `base` is what the judge needs.

Several drivers work at the same time, each in a directory of its own, on one engine: a flush that returned to one of
them promises something for all (`Promises`).
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.lab.torture.disk import Disk, Skipped
from tests.lab.torture.judge import Difference, Refused, Survivors, carry_out, first_difference, short
from tests.lab.torture.model import Model
from tests.lab.torture.stream import BARRIERS, DURABLE_WRITES, Operation, Stream

_DEAD_MOUNT: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV})
_SHOWN_BYTES: Final = 120


class Promises:
    """For each driver, how many of its operations are flushed on both nodes for certain (ordered mode)."""

    def __init__(self, count: int) -> None:
        self._least = [0] * count
        self._lock = threading.Lock()

    def raise_to(self, counts: Sequence[int]) -> None:
        with self._lock:
            self._least = [max(pair) for pair in zip(self._least, counts, strict=True)]

    def least(self, index: int) -> int:
        return self._least[index]


class Driver(threading.Thread):
    """`returned` operations are over, of which `skipped` had nothing to do; `goal` is where it stops; `accident` says
    whether an engine may be dying now. All numbers count from the beginning of the stream."""

    def __init__(self, index: int, seed: int, directory: Path, promises: Promises, everybody: list[Driver]) -> None:
        super().__init__(name=f"driver-{index}", daemon=True)
        self.index = index
        self.returned = 0
        self.skipped = 0
        self.accident = False
        self.failure: BaseException | None = None
        self.base = Model()
        self.base_at = 0
        self.journal: list[Operation] = []
        self._everybody = everybody
        self._promises = promises
        self._model = Model()
        self._stream = Stream(seed, self._model)
        self._disk = Disk(directory, lambda: self._model)
        self._again: deque[Operation] = deque()
        self.goal = 0
        self._steering = threading.Condition()
        self._still = True
        self._wanted = False
        self._ending = False
        self.halted = False

    # -- steering --------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        return self._model

    @property
    def still(self) -> bool:
        """Between two operations, halted, or over."""
        return self._still

    def run_to(self, goal: int) -> None:
        """Goes on until so many operations have returned."""
        with self._steering:
            self.goal = goal
            self._wanted = True
            self._still = self.failure is not None
            self._steering.notify()

    def pause(self) -> None:
        """Stops after the current operation; `still` says when."""
        self._wanted = False

    def end(self) -> None:
        with self._steering:
            self._ending = True
            self._wanted = False
            self._steering.notify()

    def recover(self, directory: Path, survivors: Survivors) -> None:
        """Halted: goes on in this directory, which shows these operations. Half a write is undone first, because an
        append is not the same when it is done again."""
        assert self.halted
        at, model = self.base_at + survivors.count, survivors.model
        lost = self.journal[survivors.count :]
        self._model = self._stream.model = model
        self._disk.move(directory)
        if survivors.undo is not None:
            wrong = [carry_out(target, survivors.undo) for target in (model, self._disk)]
            assert wrong == [None, None], f"{survivors.undo}: {wrong}"
        self.base, self.base_at, self.journal = model.copy(), at, list(lost)
        self._again = deque(lost)
        self.returned = at
        self.halted = False

    def rebase(self) -> None:
        """Still, and everything is where it belongs: what lies behind needs no judging any more."""
        self.base, self.base_at, self.journal = self._model.copy(), self.returned, list(self._again)

    # -- the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while not self._ending:
                if self._has_work():
                    self._one()
                else:
                    self._wait()
        except BaseException as error:  # noqa: BLE001 - shown by the supervisor, which waits for `still`
            self.failure = error
        finally:
            self._disk.finish()
            self._still = True

    def _has_work(self) -> bool:
        return self._wanted and not self.halted and self.returned < self.goal

    def _wait(self) -> None:
        with self._steering:
            if self._has_work():
                return  # told so in the meantime
            self._still = True
            self._wanted = False
            while not (self._wanted or self._ending):
                self._steering.wait()

    def _one(self) -> None:
        if self._again:
            operation = self._again.popleft()
        else:
            operation = self._stream.next()
            self.journal.append(operation)
        durable = self._is_durable(operation)
        before = [driver.returned for driver in self._everybody] if durable else []
        expected = carry_out(self._model, operation)
        try:
            actual = carry_out(self._disk, operation)
        except Skipped:
            self.skipped += 1
            self.returned += 1
            return
        if actual != expected and not (operation.name == "mtime" and expected is None):
            if self.accident and _of_a_dead_mount(actual, expected):
                self.halted = True
                return
            raise Difference(
                f"operation {self.returned} of driver {self.index}: {shown(operation)} "
                f"gave {explained(actual, expected)}, should be {brief(expected)}\n{self._history(operation)}"
            )
        self.returned += 1
        if durable and not isinstance(actual, Refused):
            before[self.index] = self.returned
            self._promises.raise_to(before)

    def _history(self, operation: Operation) -> str:
        """The last operations with the same first argument (an open file or a path) since the base."""
        same = [
            f"  {self.base_at + number}: {shown(other)}"
            for number, other in enumerate(self.journal)
            if other.arguments[0] == operation.arguments[0]
        ]
        return f"since operation {self.base_at}, with {len(self._again)} to be done again:\n" + "\n".join(same[-12:])

    def _is_durable(self, operation: Operation) -> bool:
        if operation.name in BARRIERS:
            return True
        return operation.name in DURABLE_WRITES and self._model.handles[operation.arguments[0]].durable


def _of_a_dead_mount(actual: Any, expected: Any) -> bool:
    """An error, a read that got no further than the pages the kernel had, or a write of which the first of the
    kernel's requests was carried out."""
    if isinstance(actual, bytes) and isinstance(expected, bytes):
        return expected.startswith(actual)
    if isinstance(actual, int) and isinstance(expected, int):
        return 0 < actual < expected
    return isinstance(actual, Refused) and actual.errno in _DEAD_MOUNT


def shown(operation: Operation) -> str:
    arguments = [short(value) if isinstance(value, bytes) else repr(value) for value in operation.arguments]
    return f"{operation.name}({', '.join(arguments)})"


def brief(value: Any) -> str:
    if isinstance(value, Refused):
        return f"{errno.errorcode.get(value.errno, value.errno)} ({os.strerror(value.errno)})"
    return repr(value)[:_SHOWN_BYTES]


def explained(actual: Any, expected: Any) -> str:
    if isinstance(actual, bytes) and isinstance(expected, bytes):
        return first_difference(actual, expected)
    return brief(actual)
