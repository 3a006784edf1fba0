"""Everything that runs functions by itself: timer and queue listeners, started and stopped together.

Guarantee: no listener dies quietly; `failed` ends when one of them ended, with its exception, and the host then stops.
Stopping: first nothing new is taken, then the caller drains, then `end` gives unfinished queue messages back.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from lab.functions_host.bindings import Function, QueueTrigger, TimerTrigger
from lab.functions_host.execution import Execution
from lab.functions_host.outputs import Sent
from lab.functions_host.queues import QueueListener, poison_name
from lab.functions_host.settings import QueueSettings
from lab.functions_host.storage import Queues
from lab.functions_host.timers import Clock, StatusFiles, TimerListener
from lab.functions_host.worker import Outcome

log = logging.getLogger(__name__)

FETCH_END_S: Final = 5.0


class Triggers:
    def __init__(self, timers: Iterable[TimerListener], queues: Iterable[QueueListener]) -> None:
        self._timers = {listener.function.name: listener for listener in timers}
        self._queues = {listener.function.name: listener for listener in queues}
        self._timer_tasks: list[asyncio.Task[None]] = []
        self._queue_tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to listen. Raises RuntimeError when already started."""
        if self._timer_tasks or self._queue_tasks:
            raise RuntimeError("the triggers are already started")
        self._timer_tasks = [
            asyncio.create_task(timer.run(), name=f"timer {name}") for name, timer in self._timers.items()
        ]
        self._queue_tasks = [
            asyncio.create_task(queue.run(), name=f"queue {name}") for name, queue in self._queues.items()
        ]

    async def failed(self) -> BaseException:
        """Waits for ever in a healthy host; else the reason why a listener ended."""
        tasks = (*self._timer_tasks, *self._queue_tasks)
        if not tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        task = next(iter(done))
        return task.exception() or RuntimeError(f"the listener of {task.get_name()} ended")

    def stop_taking(self) -> None:
        """No timer fires and no message is taken from now on; what runs goes on."""
        for timer in self._timers.values():
            timer.stop_firing()
        for queue in self._queues.values():
            queue.stop_fetching()

    async def end(self) -> None:
        """Ends all listeners; runs that are still under way are cancelled and their messages released.

        A request for messages that is under way is waited for (`FETCH_END_S`): storage may have leased them already.
        """
        if self._queue_tasks:
            await asyncio.wait(self._queue_tasks, timeout=FETCH_END_S)
        for queue in self._queues.values():
            await queue.release_all()
        for task in (*self._timer_tasks, *self._queue_tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def sent(self, connection: str, queue: str) -> None:
        """An output binding put a message there: a listener of that queue need not wait."""
        for listener in self._queues.values():
            if (listener.trigger.connection, listener.trigger.queue) == (connection, queue):
                listener.wake()

    async def fire(self, timer: str) -> Outcome:
        """Runs a timer function now and tells how it went. Raises KeyError for another name."""
        return await self._timers[timer].fire()

    async def poll_once(self, function: str) -> int:
        """Takes one batch for a queue function and waits until it is dealt with. Raises KeyError for another name."""
        return await self._queues[function].poll_once()


def listeners(
    functions: Iterable[Function],
    *,
    execution: Execution,
    queues: Queues,
    queue_settings: QueueSettings,
    queue_lease_s: int,
    clock: Clock,
    status: StatusFiles,
    sent: Sent,
) -> Triggers:
    """The listeners of all enabled functions; `sent` is told of poison messages.

    Raises StartRefused for a missing connection or an unreadable status.
    """
    timers: list[TimerListener] = []
    queue_listeners: list[QueueListener] = []
    for function in functions:
        if function.disabled:
            log.info("function %s is disabled", function.name)
            continue
        match function.trigger:
            case TimerTrigger():
                timers.append(TimerListener(function, execution, clock, status))
            case QueueTrigger():
                place = f"function {function.name!r}"
                connection, name = function.trigger.connection, function.trigger.queue
                queue = queues.queue(connection, name, place)
                poison = poison_name(name)
                queue_listeners.append(
                    QueueListener(
                        function,
                        queue,
                        None if poison is None else queues.queue(connection, poison, place),
                        execution,
                        queue_settings,
                        queue_lease_s,
                        on_poison=partial(sent, connection, poison or ""),
                    )
                )
            case _:
                pass  # HTTP and Event Grid come from outside
    return Triggers(timers, queue_listeners)
