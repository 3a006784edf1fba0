"""The queues the app's bindings name, through the unmodified azure-storage-queue SDK.

Guarantee: texts go as they are (base64 is the binding's matter, not the SDK's policy); a queue that is missing when a
message is put is created, and losing that race to another sender is not an error.
Limits: every call is bounded by `CALL_TIMEOUT_S` and the SDK's retries by `RETRIES`, one second apart
(the SDK's default is 15 s, too slow beside a lease of seconds).
"""

from collections.abc import Mapping
from typing import Any, Final

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from lab.functions_host.settings import Connection, ConnectionString, IdentityConnection, connection

CALL_TIMEOUT_S: Final = 10
RETRIES: Final = 2
_OPTIONS: Final[Mapping[str, Any]] = {
    # Parameters of the SDK's ExponentialRetry, whose pause is initial + base ** number: 1 s each.
    "initial_backoff": 0,
    "increment_base": 1,
    "retry_total": RETRIES,
    "random_jitter_range": 0,
    "connection_timeout": CALL_TIMEOUT_S,
    "read_timeout": CALL_TIMEOUT_S,
}


class Queue:
    """One queue of one account."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client
        self.name = client.queue_name

    async def receive(self, count: int, lease_s: int) -> list[QueueMessage]:
        """Up to `count` messages, invisible to others for `lease_s`. A queue that does not exist is empty."""
        try:
            pages = self._client.receive_messages(
                messages_per_page=count, max_messages=count, visibility_timeout=lease_s
            )
            return [message async for message in pages]
        except ResourceNotFoundError:
            return []

    async def extend(self, message_id: str, receipt: str, lease_s: int) -> str:
        """Makes the message invisible for `lease_s` from now (0: visible at once). Returns the new receipt."""
        answer = await self._client.update_message(message_id, pop_receipt=receipt, visibility_timeout=lease_s)
        assert answer.pop_receipt is not None, "Update Message answers with a receipt"
        return answer.pop_receipt

    async def delete(self, message_id: str, receipt: str) -> None:
        await self._client.delete_message(message_id, pop_receipt=receipt)

    async def put(self, text: str) -> None:
        """Sends; creates the queue first when it is missing."""
        try:
            await self._client.send_message(text)
        except ResourceNotFoundError:
            try:
                await self._client.create_queue()
            except ResourceExistsError:
                pass  # another sender was first
            await self._client.send_message(text)


class Queues:
    """Clients by connection and queue, opened on first use, closed together."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._services: dict[str, QueueServiceClient] = {}
        self._credentials: list[Any] = []
        self._queues: dict[tuple[str, str], Queue] = {}

    def queue(self, connection_name: str, queue: str, place: str) -> Queue:
        """Raises StartRefused when the connection is not configured."""
        key = (connection_name, queue)
        if key not in self._queues:
            if connection_name not in self._services:
                self._services[connection_name] = self._open(connection(connection_name, self._settings, place))
            self._queues[key] = Queue(self._services[connection_name].get_queue_client(queue))
        return self._queues[key]

    def _open(self, where: Connection) -> QueueServiceClient:
        match where:
            case ConnectionString(value):
                return QueueServiceClient.from_connection_string(value, **_OPTIONS)
            case IdentityConnection(uri, client_id):
                from azure.identity.aio import ManagedIdentityCredential  # a third of a second, seldom needed

                credential = ManagedIdentityCredential(client_id=client_id)
                self._credentials.append(credential)
                return QueueServiceClient(uri, credential=credential, **_OPTIONS)

    async def close(self) -> None:
        for service in self._services.values():
            await service.close()
        for credential in self._credentials:
            await credential.close()
