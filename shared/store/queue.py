"""The reconcile queue: Azure Queue Storage, and a queue in memory for tests.

The Functions host expects base64 text (host.json `messageEncoding: base64`); a plain text would end in the poison
queue, which is why the policy is set here and nowhere else.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from shared.store.messages import decode, encode
from shared.store.ports import ReconcileMessage, Unavailable

MAX_DELAY_S: Final = 7 * 86400


def _whole_seconds(delay_s: float) -> int:
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise ValueError(f"a queue delay of {delay_s} s; 0 to {MAX_DELAY_S} is possible")
    return math.ceil(delay_s)


class AzureReconcileQueue:
    def __init__(self, client: QueueClient) -> None:
        """`client` must have been made by `base64_client_options`."""
        self._client = client
        self._created = False
        self._creating = asyncio.Lock()

    async def enqueue(self, message: ReconcileMessage, delay_s: float = 0) -> None:
        visible_after_s = _whole_seconds(delay_s)
        try:
            if not self._created:
                await self._create()
            try:
                await self._client.send_message(encode(message), visibility_timeout=visible_after_s)
            except ResourceNotFoundError:  # deleted under us
                await self._create()
                await self._client.send_message(encode(message), visibility_timeout=visible_after_s)
        except AzureError as error:
            raise Unavailable(f"queue {self._client.queue_name}: {type(error).__name__}: {error.message}") from error

    async def _create(self) -> None:
        async with self._creating:
            try:
                await self._client.create_queue()
            except ResourceExistsError:
                pass  # another instance was first
            self._created = True

    async def close(self) -> None:
        await self._client.close()


def base64_policy() -> TextBase64EncodePolicy:
    return TextBase64EncodePolicy()


class MemoryReconcileQueue:
    """Messages with the time they become visible, by an injected clock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._messages: list[tuple[datetime, str]] = []
        self._failures: list[Unavailable] = []

    def fail(self, error: Unavailable) -> None:
        """The next `enqueue` raises `error`."""
        self._failures.append(error)

    async def enqueue(self, message: ReconcileMessage, delay_s: float = 0) -> None:
        if self._failures:
            raise self._failures.pop()
        self._messages.append((self._clock() + timedelta(seconds=_whole_seconds(delay_s)), encode(message)))

    def take(self) -> list[ReconcileMessage]:
        """Removes and returns what is visible now, oldest first."""
        now = self._clock()
        due = sorted((entry for entry in self._messages if entry[0] <= now), key=lambda entry: entry[0])
        self._messages = [entry for entry in self._messages if entry[0] > now]
        return [decode(text) for _, text in due]

    def __len__(self) -> int:
        return len(self._messages)
