"""sd_notify(3) and the watchdog of systemd.service(5), for one life of a unit's main process.

Honoured: READY=1, WATCHDOG=1, WATCHDOG=trigger, WATCHDOG_USEC=, and EXTEND_TIMEOUT_USEC= for a stop; everything else a
service may say is no concern here.
With NotifyAccess=main what other processes say is dropped (SCM_CREDENTIALS); with `all` any process may speak.
As there, what has been said is heard before a service is taken for dead.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from lab.vm.guest.unitfile import Unit

DIRECTORY = Path("/run/systemd")
MESSAGE_BYTES = 4096
# pid, uid, gid: struct ucred of unix(7).
CREDENTIALS = struct.Struct("3i")
# A service may shorten its time while it is being waited for.
STEP_S = 0.5


class LifeSigns:
    """`open` before the main process starts, `close` when it has ended; `main_pid` says whose word counts."""

    def __init__(self, unit: Unit, main_pid: Callable[[], int]) -> None:
        self._unit = unit
        self._main_pid = main_pid
        self._socket: socket.socket | None = None
        self._timeout_s = unit.watchdog_s
        self._last = 0.0
        self._extended_until = 0.0
        self.ready = asyncio.Event()

    def open(self, directory: Path = DIRECTORY) -> dict[str, str]:
        """The environment the main process is to have; empty when the unit has nothing to say."""
        access = self._unit.notify_access
        if access == "none" or not (access or self._unit.kind == "notify" or self._unit.watchdog_s > 0):
            return {}
        path = directory / f"notify-{self._unit.name}"
        directory.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        environment = {"NOTIFY_SOCKET": str(path)}
        if self._unit.watchdog_s > 0:
            environment["WATCHDOG_USEC"] = str(round(self._unit.watchdog_s * 1e6))
        return environment

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def expired(self) -> None:
        """Returns when the main process has given no sign of life for as long as it said it would."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        while True:
            left_s = self._left_s()
            if left_s <= 0:
                self._receive()
                left_s = self._left_s()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, STEP_S))

    def stop_until(self, end: float) -> float:
        """When a stop that was to be over at `end` (the loop's time) times out after what the service has said."""
        self._receive()
        return max(end, self._extended_until)

    def _left_s(self) -> float:
        return self._last + self._timeout_s - asyncio.get_running_loop().time()

    def _receive(self) -> None:
        """Everything that has been said so far."""
        while self._socket is not None:
            try:
                text, ancillary, _, _ = self._socket.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                return
            if self._unit.notify_access == "all" or self._main_pid() in _senders(ancillary):
                self._heard(text.decode(errors="replace").splitlines())

    def _heard(self, lines: list[str]) -> None:
        for line in lines:
            word, _, value = line.partition("=")
            match word, value:
                case "READY", "1":
                    self.ready.set()
                case "WATCHDOG", "1":
                    self._last = asyncio.get_running_loop().time()
                case "WATCHDOG", "trigger":
                    self._timeout_s = 0.0
                case "WATCHDOG_USEC", number if number.isdigit():
                    self._timeout_s = int(number) / 1e6
                case "EXTEND_TIMEOUT_USEC", number if number.isdigit():
                    until = asyncio.get_running_loop().time() + int(number) / 1e6
                    self._extended_until = max(self._extended_until, until)
                case _:
                    pass


def _senders(ancillary: list[tuple[int, int, bytes]]) -> set[int]:
    """The processes the kernel names as senders."""
    return {
        CREDENTIALS.unpack(data[: CREDENTIALS.size])[0]
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
    }
