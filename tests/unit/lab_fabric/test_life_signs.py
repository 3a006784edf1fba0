"""The service manager of the lab's VMs as systemd.service(5) has it: who may speak, and when a service is hung."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.vm.guest.life_signs import LifeSigns
from lab.vm.guest.unitfile import UnitError, parse_unit

DEADLINE_S = 30.0


@contextmanager
def opened(directory: Path, text: str, main_pid: int) -> Iterator[tuple[LifeSigns, dict[str, str]]]:
    unit = parse_unit("x.service", Path("/x.service"), f"[Service]\nExecStart=/bin/true\n{text}")
    signs = LifeSigns(unit, lambda: main_pid)
    environment = signs.open(directory)
    try:
        yield signs, environment
    finally:
        signs.close()


def say(environment: dict[str, str], text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
        speaking.sendto(text.encode(), environment["NOTIFY_SOCKET"])


async def test_ready_counts_from_the_main_process(tmp_path: Path) -> None:
    with opened(tmp_path, "Type=notify\n", os.getpid()) as (signs, environment):
        say(environment, "STATUS=loading\nREADY=1")
        await asyncio.wait_for(signs.ready.wait(), DEADLINE_S)
        assert "WATCHDOG_USEC" not in environment


@pytest.mark.parametrize(("access", "counts"), [("main", False), ("all", True)])
async def test_another_process_speaks_for_itself(tmp_path: Path, access: str, counts: bool) -> None:
    with opened(tmp_path, f"Type=notify\nNotifyAccess={access}\n", os.getpid()) as (signs, environment):
        program = "import socket, sys; socket.socket(1, 2).sendto(b'READY=1', sys.argv[1])"
        command = [sys.executable, "-c", program, environment["NOTIFY_SOCKET"]]
        await asyncio.to_thread(subprocess.run, command, check=True)
        await asyncio.sleep(0)  # the datagram is there: one turn of the loop reads it
        await asyncio.sleep(0)
        assert signs.ready.is_set() is counts


async def test_one_that_says_nothing_has_expired(tmp_path: Path) -> None:
    with opened(tmp_path, "Type=exec\nWatchdogSec=10ms\n", os.getpid()) as (signs, environment):
        assert environment["WATCHDOG_USEC"] == "10000"
        await asyncio.wait_for(signs.expired(), DEADLINE_S)


async def test_it_may_change_its_time_and_ask_for_its_end(tmp_path: Path) -> None:
    with opened(tmp_path, "Type=exec\nWatchdogSec=10min\n", os.getpid()) as (signs, environment):
        expired = asyncio.create_task(signs.expired())
        say(environment, "WATCHDOG_USEC=10000\nWATCHDOG=1")
        await asyncio.wait_for(expired, DEADLINE_S)
    with opened(tmp_path, "Type=exec\nWatchdogSec=10min\n", os.getpid()) as (signs, environment):
        say(environment, "WATCHDOG=trigger")
        await asyncio.wait_for(signs.expired(), DEADLINE_S)


async def test_a_stop_may_take_as_long_as_the_service_asks_for_and_never_less(tmp_path: Path) -> None:
    with opened(tmp_path, "Type=exec\nNotifyAccess=main\n", os.getpid()) as (signs, environment):
        now = asyncio.get_running_loop().time()
        assert signs.stop_until(now + 90.0) == now + 90.0
        say(environment, "EXTEND_TIMEOUT_USEC=400000000")
        assert now + 400.0 <= signs.stop_until(now + 90.0) < now + 400.0 + DEADLINE_S
        say(environment, "EXTEND_TIMEOUT_USEC=1000000")
        assert signs.stop_until(now + 90.0) >= now + 400.0


async def test_what_was_said_is_heard_before_the_judgement(tmp_path: Path) -> None:
    """The manager itself stood still for longer than the time, and the service spoke meanwhile."""
    with opened(tmp_path, "Type=exec\nWatchdogSec=10min\n", os.getpid()) as (signs, environment):
        expired = asyncio.create_task(signs.expired())
        await asyncio.sleep(0)
        signs._last -= 700.0
        say(environment, "WATCHDOG=1")
        done, _ = await asyncio.wait({expired}, timeout=1.0)
        assert not done
        expired.cancel()


async def test_without_a_word_to_say_there_is_no_socket(tmp_path: Path) -> None:
    with opened(tmp_path, "Type=exec\n", 1) as (_, environment):
        assert environment == {}
    with opened(tmp_path, "Type=exec\nNotifyAccess=none\nWatchdogSec=5\n", 1) as (_, environment):
        assert environment == {}
    with pytest.raises(UnitError, match="NotifyAccess=exec"), opened(tmp_path, "NotifyAccess=exec\n", 1):
        pass
