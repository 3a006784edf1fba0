"""Queue triggers: lease a batch, run the function for each message, delete, release or move to the poison queue.

Guarantee: at least once. A message is deleted only after its function succeeded and its outputs are stored; a host
that is killed leaves it leased, and it reappears when the lease ends. A message that failed `maxDequeueCount` times,
or that took the host down so often that nothing could be counted, goes to `<queue>-poison`: written there first, then
deleted.
Behaviour of the storage extension: lease 10 min, renewed at half time; next batch when at most `newBatchThreshold`
run; failure makes the message visible again after `visibilityTimeout`; idle polling backs off from 0.1 s to
`maxPollingInterval` and an own output to the queue ends the pause. A poison queue has no poison queue: a failed
message of it stays leased, and after `maxDequeueCount` deliveries it is not run any more.
Limits: order is not kept; a function that outlives a lost lease runs twice.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.queue import QueueMessage

from lab.functions_host import protos
from lab.functions_host.bindings import Function, QueueTrigger
from lab.functions_host.execution import Execution, Pause
from lab.functions_host.settings import QueueSettings
from lab.functions_host.worker import Outcome, Succeeded

log = logging.getLogger(__name__)

LEASE_S: Final = 600
MIN_POLL_S: Final = 0.1
RENEWAL_RETRY_S: Final = 5.0
POISON_SUFFIX: Final = "-poison"
MAX_NAME_LENGTH: Final = 63  # of a queue
LEASE_LOST: Final = frozenset({"MessageNotFound", "PopReceiptMismatch", "QueueNotFound"})


@dataclass(slots=True)
class _Lease:
    """The receipt changes with every renewal; deleting needs the newest."""

    message: QueueMessage
    receipt: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while a renewal is under way


def next_pause_s(pause_s: float, found: int, settings: QueueSettings) -> float:
    """The pause before the next look: short after work, doubling while the queue is empty."""
    return MIN_POLL_S if found else min(settings.max_polling_interval_s, max(MIN_POLL_S, pause_s * 2))


def body_of(content: str, is_base64: bool) -> bytes | None:
    """The message as the function gets it; None when it is not the base64 that host.json promises."""
    if not is_base64:
        return content.encode()
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def trigger_data(body: bytes) -> protos.TypedData:
    """Text where it is UTF-8, else bytes."""
    try:
        return protos.TypedData(string=body.decode())
    except UnicodeDecodeError:
        return protos.TypedData(bytes=body)


def trigger_metadata(message: QueueMessage, body: bytes) -> dict[str, protos.TypedData]:
    metadata = {
        "Id": protos.TypedData(string=message.id),
        "PopReceipt": protos.TypedData(string=message.pop_receipt),
        "DequeueCount": protos.TypedData(json=json.dumps(str(message.dequeue_count))),
        "QueueTrigger": protos.TypedData(string=body.decode(errors="replace")),
    }
    times = (
        ("InsertionTime", message.inserted_on),
        ("ExpirationTime", message.expires_on),
        ("NextVisibleTime", message.next_visible_on),
    )
    for name, value in times:
        if value is not None:
            metadata[name] = protos.TypedData(json=json.dumps(value.isoformat()))
    return metadata


def poison_name(queue: str) -> str | None:
    """The poison queue of `queue`. None for a poison queue itself and where the name would be too long, as in Azure."""
    name = queue + POISON_SUFFIX
    return None if queue.endswith(POISON_SUFFIX) or len(name) > MAX_NAME_LENGTH else name


class QueuePort(Protocol):
    """One queue; storage.Queue says what each call does. Every call may raise the SDK's AzureError."""

    name: str

    async def receive(self, count: int, lease_s: int) -> list[QueueMessage]: ...

    async def extend(self, message_id: str, receipt: str, lease_s: int) -> str: ...

    async def delete(self, message_id: str, receipt: str) -> None: ...

    async def put(self, text: str) -> None: ...


class QueueListener:
    """`lease_s` is shorter than Azure's 10 minutes where a killed host's messages must reappear soon."""

    def __init__(
        self,
        function: Function,
        queue: QueuePort,
        poison: QueuePort | None,
        execution: Execution,
        settings: QueueSettings,
        lease_s: int = LEASE_S,
        pause: Pause = asyncio.sleep,
        on_poison: Callable[[], None] = lambda: None,
    ) -> None:
        assert isinstance(function.trigger, QueueTrigger)
        self.function = function
        self.trigger = function.trigger
        self._queue = queue
        self._poison = poison
        self._execution = execution
        self._settings = settings
        self._lease_s = lease_s
        self._pause = pause  # between renewals; injectable for tests
        self._on_poison = on_poison  # a message was put into the poison queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()  # set: look now (own output, or a slot became free)
        self._stopping = False

    def wake(self) -> None:
        self._look.set()

    async def run(self) -> None:
        """Until `stop_fetching`. Storage that does not answer is retried with the same back-off as an empty queue."""
        pause_s = 0.0
        while not self._stopping:
            self._look.clear()
            found = 0
            if len(self._tasks) <= self._settings.new_batch_threshold:
                try:
                    found = await self._fetch()
                except AzureError as error:
                    log.warning("queue %s cannot be read: %s: %s", self._queue.name, type(error).__name__, error)
            pause_s = next_pause_s(pause_s, found, self._settings)
            if found and len(self._tasks) <= self._settings.new_batch_threshold:
                continue
            try:
                async with asyncio.timeout(pause_s):
                    await self._look.wait()
            except TimeoutError:
                pass  # the pause is over

    async def poll_once(self) -> int:
        """One look; waits until what was found is dealt with. Returns how many messages that were. For tests."""
        found = await self._fetch()
        if self._tasks:
            await asyncio.wait(self._tasks)
        return found

    def stop_fetching(self) -> None:
        self._stopping = True
        self._look.set()

    async def release_all(self) -> None:
        """Ends what still runs and gives its messages back, visible at once."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self) -> int:
        messages = await self._queue.receive(self._settings.batch_size, self._lease_s)
        if self._stopping:  # the stop came while the request was under way
            for message in messages:
                given_back = self._queue.extend(message.id, message.pop_receipt or "", 0)
                await self._storage(given_back, "give back")
            return 0
        for message in messages:
            task = asyncio.create_task(self._handle(_Lease(message, message.pop_receipt or "")))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        return len(messages)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._look.set()
        if not task.cancelled() and task.exception() is not None:
            # The message stays leased and comes back; the fault is ours and must be seen.
            log.critical("handling a message of queue %s failed", self._queue.name, exc_info=task.exception())

    async def _handle(self, lease: _Lease) -> None:
        message = lease.message
        renewal = asyncio.create_task(self._keep(lease))
        try:
            if (message.dequeue_count or 0) > self._settings.max_dequeue_count:
                await self._storage(self._move_to_poison(lease), "move to the poison queue")
                return
            body = body_of(str(message.content), self._settings.base64)
            if body is None:
                log.error(
                    "message %s of queue %s is not base64 and goes to the poison queue; "
                    "send it with TextBase64EncodePolicy or set extensions.queues.messageEncoding to none",
                    message.id,
                    self._queue.name,
                )
                await self._storage(self._move_to_poison(lease), "move to the poison queue")
                return
            outcome = await self._execution.run(
                self.function, trigger_data(body), trigger_metadata(message, body), "queue"
            )
            async with lease.lock:  # a renewal under way changes the receipt
                renewal.cancel()
            await self._settle(lease, outcome)
        except asyncio.CancelledError:
            await self._storage(self._release(lease, 0), "release")
            raise
        finally:
            renewal.cancel()

    async def _settle(self, lease: _Lease, outcome: Outcome) -> None:
        if isinstance(outcome, Succeeded):
            await self._storage(self._queue.delete(lease.message.id, lease.receipt), "delete")
        elif self._poison is None:
            # Not released: a queue without a poison queue would fail in a fast endless loop. It comes back with the
            # end of its lease.
            log.error("message %s of queue %s failed and stays leased", lease.message.id, self._queue.name)
        elif (lease.message.dequeue_count or 0) >= self._settings.max_dequeue_count:
            await self._storage(self._move_to_poison(lease), "move to the poison queue")
        else:
            await self._storage(self._release(lease, self._settings.visibility_timeout_s), "release")

    async def _release(self, lease: _Lease, after_s: int) -> None:
        await self._queue.extend(lease.message.id, lease.receipt, after_s)

    async def _move_to_poison(self, lease: _Lease) -> None:
        if self._poison is None:
            log.error(
                "message %s of queue %s is not run after %s deliveries, and a poison queue has none itself; "
                "it stays until it expires: remove it",
                lease.message.id,
                self._queue.name,
                lease.message.dequeue_count,
            )
            return
        await self._poison.put(str(lease.message.content))
        self._on_poison()
        log.error(
            "message %s moved to %s after %s deliveries",
            lease.message.id,
            self._poison.name,
            lease.message.dequeue_count,
            extra={"fields": {"function": self.function.name, "queue": self._queue.name}},
        )
        await self._queue.delete(lease.message.id, lease.receipt)

    async def _storage(self, step: Awaitable[object], what: str) -> None:
        """A step after the function. Its failure leaves the message leased: it reappears when the lease ends."""
        try:
            await step
        except AzureError as error:
            log.warning(
                "queue %s: %s failed, the message reappears when its lease ends: %s: %s",
                self._queue.name,
                what,
                type(error).__name__,
                error,
            )

    async def _keep(self, lease: _Lease) -> None:
        """Renews the lease at half time until cancelled."""
        pause_s = self._lease_s / 2
        while True:
            await self._pause(pause_s)
            try:
                async with lease.lock:
                    lease.receipt = await self._queue.extend(lease.message.id, lease.receipt, self._lease_s)
                pause_s = self._lease_s / 2
            except AzureError as error:
                if isinstance(error, HttpResponseError) and getattr(error, "error_code", None) in LEASE_LOST:
                    log.warning(
                        "queue %s: the lease of %s is lost, it may run twice", self._queue.name, lease.message.id
                    )
                    return
                pause_s = min(RENEWAL_RETRY_S, self._lease_s / 10)
                log.warning("queue %s: a lease was not renewed, trying again: %s", self._queue.name, error)
