"""What the agent says to the service manager, and how often; the sockets are real."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror_agent.node.keepalive import ServiceManager, kept_alive

from tests.agent_samples import FakeClock, Recorded, eventually
from tests.portable import needs_unix_sockets


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address as the service manager gives it, and its end of the socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@mirrorplane-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        yield name, listening


def heard(listening: socket.socket) -> list[list[str]]:
    found = []
    while True:
        try:
            found.append(listening.recv(4096).decode().splitlines())
        except BlockingIOError:
            return found


@needs_unix_sockets
async def test_the_time_follows_the_promise_and_is_kept_several_times_over(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    clock = FakeClock()
    async with kept_alive(ServiceManager(address, log=Recorded()), promise_s=4.0, clock=clock):
        assert heard(listening) == [["WATCHDOG_USEC=6000000", "WATCHDOG=1"]]
        for _ in range(10):
            await clock.advance(0.6)
        assert heard(listening) == [["WATCHDOG=1"]] * 10
    await clock.advance(6.0)
    assert heard(listening) == []


@needs_unix_sockets
def test_a_node_that_leaves_asks_for_the_time_its_application_may_take(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    service_manager = ServiceManager(address, log=Recorded())
    service_manager.leaving(340.0)
    service_manager.close()
    assert heard(listening) == [["EXTEND_TIMEOUT_USEC=400000000"]]


def test_what_the_agent_starts_is_not_the_service() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "PATH": "/bin"}
    ServiceManager.of(environment, log=Recorded()).close()
    assert environment == {"PATH": "/bin"}


async def test_without_a_service_manager_nothing_is_said() -> None:
    log = Recorded()
    async with kept_alive(ServiceManager.of({}, log=log), promise_s=4.0, clock=FakeClock()):
        pass
    assert log.kinds() == []


async def test_one_that_cannot_be_reached_is_recorded_once(tmp_path: Path) -> None:
    log = Recorded()
    service_manager = ServiceManager(str(tmp_path / "nobody"), log=log)
    for _ in range(3):
        service_manager.say("WATCHDOG=1")
    service_manager.close()
    assert log.kinds() == ["service-manager.unreachable"]


@needs_unix_sockets
async def test_a_manager_that_does_not_listen_holds_nobody_up(manager: tuple[str, socket.socket]) -> None:
    address, _ = manager
    log = Recorded()
    service_manager = ServiceManager(address, log=log)
    for _ in range(10_000):  # more than a queue of datagrams holds
        service_manager.say("WATCHDOG=1")
    service_manager.close()
    await eventually(lambda: log.kinds() == ["service-manager.unreachable"], "the full queue is recorded")
