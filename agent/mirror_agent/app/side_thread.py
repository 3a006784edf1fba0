"""A blocking call beside the event loop that is allowed to hang.

Reading another process's command line or environment can wait for that process's memory, and a process that hangs in
a file system may hold it. Such a call gets a deadline and a daemon thread of its own, so that it holds up neither the
loop nor the end of the agent. Limits: one call at a time per `SideThread`; while one hangs, the next one fails at once,
so hung threads do not pile up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class SideThread:
    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = False

    async def call(self, work: Callable[[], T], *, deadline_s: float) -> T:
        """The result of `work`, or its exception; TimeoutError when it takes longer, or an earlier one still hangs."""
        if self._busy:
            raise TimeoutError(f"{self._name}: an earlier call still hangs")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(value)  # type: ignore[arg-type]

        def body() -> None:
            value: T | None = None
            failure: BaseException | None = None
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                failure = error
            self._busy = False  # before the caller hears of it: the thread itself may end a moment after that
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, failure)

        self._busy = True
        try:
            threading.Thread(target=body, name=self._name, daemon=True).start()
        except RuntimeError:
            self._busy = False  # no thread could be made
            raise
        async with asyncio.timeout(deadline_s):
            return await outcome
