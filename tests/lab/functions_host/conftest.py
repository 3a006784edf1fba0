"""Hosts for the tests, each in its own directory, all of them gone afterwards."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from lab.azurite.server import Azurite

from .process import HostProcess

APPS = Path(__file__).parent / "apps"
# Nothing listens on port 1: the host must bear a storage that is not there.
NO_STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;"
    "QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;"
)

StartHost = Callable[..., HostProcess]


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[StartHost]:
    started: list[HostProcess] = []

    def start(
        *arguments: str, app: str = "everything", storage: str = NO_STORAGE, settings: Mapping[str, str] | None = None
    ) -> HostProcess:
        given = {"AzureWebJobsStorage": storage, "PREFIX": "none", **(settings or {})}
        host = HostProcess(tmp_path, APPS / app, given, *arguments)
        started.append(host)
        return host

    yield start
    for host in started:
        host.kill()


class Storage:
    """Queues with names of this test's own."""

    def __init__(self, connection_string: str) -> None:
        self.connection_string = connection_string
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.settings = {"PREFIX": self.prefix}
        self._clients: dict[str, QueueClient] = {}

    def queue(self, name: str, *, create: bool = False) -> QueueClient:
        if name not in self._clients:
            full_name = f"{self.prefix}-{name}"
            self._clients[name] = QueueClient.from_connection_string(self.connection_string, full_name)
        client = self._clients[name]
        if create:
            client.create_queue()
        return client

    def count(self, name: str) -> int:
        """How many messages a queue holds, visible or not; 0 when it does not exist."""
        try:
            return self.queue(name).get_queue_properties().approximate_message_count or 0
        except ResourceNotFoundError:
            return 0

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture
def storage(azurite: Azurite) -> Iterator[Storage]:
    storage = Storage(azurite.connection_string)
    yield storage
    storage.close()
