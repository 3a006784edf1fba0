"""The queue listener step by step on a queue in memory: what is deleted, released, poisoned when storage fails."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError
from azure.storage.queue import QueueMessage

from lab.functions_host.execution import Execution
from lab.functions_host.queues import QueueListener, poison_name
from lab.functions_host.settings import QueueSettings

from .conftest import Loaded


@dataclass
class Stored:
    text: str
    deliveries: int = 0
    receipt: int = 0
    leased_s: int = 0  # 0: visible


@dataclass
class MemoryQueue:
    """Get, Update, Delete and Put Message with Queue Storage's rules of receipts. `fail` breaks the named call once."""

    name: str
    messages: dict[str, Stored] = field(default_factory=dict)
    fail: set[str] = field(default_factory=set)
    during_receive: Callable[[], Awaitable[None]] | None = None

    def _check(self, call: str) -> None:
        if call in self.fail:
            self.fail.remove(call)
            raise ServiceRequestError(f"{call} failed")

    async def receive(self, count: int, lease_s: int) -> list[QueueMessage]:
        self._check("receive")
        taken: list[QueueMessage] = []
        for message_id, stored in self.messages.items():
            if not stored.leased_s and len(taken) < count:
                stored.deliveries, stored.receipt, stored.leased_s = stored.deliveries + 1, stored.receipt + 1, lease_s
                message = QueueMessage(stored.text)
                message.id, message.pop_receipt = message_id, str(stored.receipt)
                message.dequeue_count, message.inserted_on = stored.deliveries, datetime.now(UTC)
                taken.append(message)
        if self.during_receive is not None:
            await self.during_receive()
        return taken

    def _held(self, message_id: str, receipt: str) -> Stored:
        if message_id not in self.messages:
            raise ResourceNotFoundError("gone")
        stored = self.messages[message_id]
        if receipt != str(stored.receipt):
            error = HttpResponseError("another receipt")
            error.error_code = "PopReceiptMismatch"  # type: ignore[attr-defined] # as the SDK sets it
            raise error
        return stored

    async def extend(self, message_id: str, receipt: str, lease_s: int) -> str:
        self._check("extend")
        stored = self._held(message_id, receipt)
        stored.receipt, stored.leased_s = stored.receipt + 1, lease_s
        return str(stored.receipt)

    async def delete(self, message_id: str, receipt: str) -> None:
        self._check("delete")
        self._held(message_id, receipt)
        del self.messages[message_id]

    async def put(self, text: str) -> None:
        self._check("put")
        self.messages[f"m{len(self.messages)}"] = Stored(text)


class HandPause:
    """Renewals happen when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._go = asyncio.Semaphore(0)

    async def __call__(self, duration_s: float) -> None:
        self.asked.append(duration_s)
        await self._go.acquire()

    async def pass_one(self) -> None:
        """One pause ends, and what follows it is done: the next pause is asked for, or the renewal ended."""
        asked = len(self.asked)
        self._go.release()
        for _ in range(100):
            await asyncio.sleep(0)
            if len(self.asked) > asked:
                return


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Bench:
    listener: QueueListener
    queue: MemoryQueue
    poison: MemoryQueue
    pause: HandPause

    def texts(self) -> list[str]:
        return [base64.b64decode(stored.text).decode() for stored in self.queue.messages.values()]

    def end_leases(self) -> None:
        """What time does after a host was killed."""
        for stored in self.queue.messages.values():
            stored.leased_s = 0


@pytest.fixture
def bench(loaded: Loaded, execution: Execution, seen: list[str]) -> Bench:
    queue, poison, pause = MemoryQueue("work"), MemoryQueue("work-poison"), HandPause()
    settings = QueueSettings(max_dequeue_count=3, batch_size=4, visibility_timeout_s=7)
    function = loaded.functions["on_message"]
    return Bench(QueueListener(function, queue, poison, execution, settings, 60, pause), queue, poison, pause)


async def test_done_is_deleted_and_failed_is_released_for_the_visibility_timeout(bench: Bench, seen: list[str]) -> None:
    for text in ("one", "bad"):
        await bench.queue.put(encoded(text))
    assert await bench.listener.poll_once() == 2
    assert sorted(seen) == ["bad 1", "one 1"]
    assert bench.texts() == ["bad"]
    assert [stored.leased_s for stored in bench.queue.messages.values()] == [7]


async def test_the_last_allowed_failure_poisons(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put(encoded("bad"))
    for _ in range(4):
        await bench.listener.poll_once()
        bench.end_leases()
    assert seen == ["bad 1", "bad 2", "bad 3"]
    assert bench.queue.messages == {}
    assert [stored.text for stored in bench.poison.messages.values()] == [encoded("bad")]


async def test_a_message_that_killed_its_hosts_is_poisoned_without_another_run(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put(encoded("endless"))
    next(iter(bench.queue.messages.values())).deliveries = 3
    assert await bench.listener.poll_once() == 1
    assert seen == []
    assert (len(bench.queue.messages), len(bench.poison.messages)) == (0, 1)


@pytest.mark.parametrize(
    ("queue", "expected"),
    [("work", "work-poison"), ("work-poison", None), ("q" * 56, f"{'q' * 56}-poison"), ("q" * 57, None)],
)
def test_poison_names(queue: str, expected: str | None) -> None:
    assert poison_name(queue) == expected


async def test_a_poison_queue_keeps_what_fails_and_gives_up_after_the_last_delivery(
    loaded: Loaded, execution: Execution, seen: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    queue = MemoryQueue("work-poison")
    listener = QueueListener(loaded.functions["on_message"], queue, None, execution, QueueSettings(max_dequeue_count=2))
    await queue.put(encoded("bad"))
    for _ in range(3):
        await listener.poll_once()
        (stored,) = queue.messages.values()
        assert stored.leased_s == 600, "not released"
        stored.leased_s = 0
    assert seen == ["bad 1", "bad 2"]
    assert "is not run after 3 deliveries" in caplog.text


@pytest.mark.parametrize("call", ["delete", "put"])
async def test_storage_failing_after_the_function_keeps_the_message(bench: Bench, seen: list[str], call: str) -> None:
    text = "one" if call == "delete" else "bad"
    await bench.queue.put(encoded(text))
    next(iter(bench.queue.messages.values())).deliveries = 2
    (bench.queue if call == "delete" else bench.poison).fail.add(call)
    await bench.listener.poll_once()
    assert bench.texts() == [text], "still there, leased"
    bench.end_leases()
    await bench.listener.poll_once()
    assert bench.queue.messages == {}


async def test_poison_is_written_before_the_original_is_deleted(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put("not base64!")
    bench.queue.fail.add("delete")
    await bench.listener.poll_once()
    assert [stored.text for stored in bench.poison.messages.values()] == ["not base64!"]
    assert len(bench.queue.messages) == 1, "twice rather than never"


async def test_renewal_changes_the_receipt_that_deletes(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put(encoded("endless"))
    polling = asyncio.create_task(bench.listener.poll_once())
    while not bench.pause.asked or not seen:  # noqa: ASYNC110 - two facts of two tasks
        await asyncio.sleep(0)
    bench.queue.fail.add("extend")
    await bench.pause.pass_one()
    await bench.pause.pass_one()
    assert bench.pause.asked == [30.0, 5.0, 30.0], "half the lease; soon again after a failure"
    assert next(iter(bench.queue.messages.values())).receipt == 2
    await bench.listener.release_all()
    await polling
    assert [stored.leased_s for stored in bench.queue.messages.values()] == [0], "given back with the new receipt"


async def test_a_lost_lease_is_said_and_not_renewed(
    bench: Bench, seen: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await bench.queue.put(encoded("endless"))
    polling = asyncio.create_task(bench.listener.poll_once())
    while not bench.pause.asked or not seen:  # noqa: ASYNC110 - two facts of two tasks
        await asyncio.sleep(0)
    next(iter(bench.queue.messages.values())).receipt = 99  # another host took it
    await bench.pause.pass_one()
    assert "may run twice" in caplog.text
    await bench.listener.release_all()
    await polling
    assert next(iter(bench.queue.messages.values())).leased_s == 60, "not ours to give back"


async def test_messages_leased_while_the_host_stops_are_given_back(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put(encoded("one"))

    async def stop() -> None:
        bench.listener.stop_fetching()

    bench.queue.during_receive = stop
    await asyncio.wait_for(bench.listener.run(), 10)
    assert seen == []
    assert [stored.leased_s for stored in bench.queue.messages.values()] == [0]


async def test_a_queue_that_cannot_be_read_is_tried_again(bench: Bench, seen: list[str]) -> None:
    await bench.queue.put(encoded("one"))
    bench.queue.fail.add("receive")
    running = asyncio.create_task(bench.listener.run())
    async with asyncio.timeout(10):
        while bench.queue.messages:
            bench.listener.wake()
            await asyncio.sleep(0)
    bench.listener.stop_fetching()
    await running
    assert seen == ["one 1"]
