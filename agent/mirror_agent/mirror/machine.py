"""What the engine asks of its machine beside files: clocks, threads, waiting for a connection, the death of its parent.

On Linux every name is the system's own; on Windows it is what comes nearest, and where that differs for a caller there
is a constant to ask (`SHUTDOWN_WAKES`).
"""

from __future__ import annotations

import sys
import time
from typing import Final

_NICE: Final = 10

if sys.platform == "win32":
    import ctypes
    import errno
    import select
    import socket

    from mirror_agent.platform import HOST

    # A thread that waits in recv or accept is not woken by shutdown: it has to look now and then.
    SHUTDOWN_WAKES: Final = False
    POLLIN: Final = 1
    _LOOK_S: Final = 0.2
    _BELOW_NORMAL: Final = -1
    # TCP_MAXRT (ws2ipdef.h): seconds.
    _TCP_MAXRT: Final = 5

    boottime_s = HOST.now_s
    boot_id = HOST.boot_id

    def boottime_ns() -> int:
        return int(HOST.now_s() * 1_000_000_000)

    class poll:
        """What the engine uses of `select.poll`, for sockets."""

        def __init__(self) -> None:
            self._registered: list[int] = []

        def register(self, fd: int, _events: int) -> None:
            self._registered.append(fd)

        def poll(self, timeout_ms: float | None = None) -> list[tuple[int, int]]:
            if not self._registered:
                return []
            ready, _, _ = select.select(self._registered, [], [], None if timeout_ms is None else timeout_ms / 1000)
            return [(fd, POLLIN) for fd in ready]

    def arrives(connection: socket.socket) -> bool:
        """True when there is something to receive, False after a while without."""
        return bool(select.select([connection], [], [], _LOOK_S)[0])

    def bound_retransmission(connection: socket.socket, seconds: float) -> None:
        """Ends the connection after so long without an answer to what was sent. Where the system has no such bound
        (Wine), the stream's own watch over silence is the only one."""
        try:
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_MAXRT, max(1, round(seconds)))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise

    def to_background() -> None:
        """The calling thread gives way to all others."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentThread.restype = ctypes.c_void_p
        kernel.SetThreadPriority.argtypes = [ctypes.c_void_p, ctypes.c_int]
        if not kernel.SetThreadPriority(kernel.GetCurrentThread(), _BELOW_NORMAL):
            raise ctypes.WinError(ctypes.get_last_error())

    def cpu_clock() -> int | None:
        """None: there are no counters of disks either, so nobody asks."""
        return None

    def cpu_ns(clock: int | None) -> int:
        return 0
else:
    import os
    import socket
    import threading
    from pathlib import Path
    from select import POLLIN, poll

    SHUTDOWN_WAKES: Final = True

    def boottime_s() -> float:
        """Seconds on the clock that also counts while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boottime_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def boot_id() -> str:
        """Another text after every start of the machine."""
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def arrives(connection: socket.socket) -> bool:
        """Where `SHUTDOWN_WAKES`, who waits in recv need not look before."""
        return True

    def bound_retransmission(connection: socket.socket, seconds: float) -> None:
        """Ends the connection after so long without an answer to what was sent."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def to_background() -> None:
        """The calling thread gives way to all others."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)

    def cpu_clock() -> int | None:
        """Of the calling thread, for `cpu_ns`."""
        return time.pthread_getcpuclockid(threading.get_ident())

    def cpu_ns(clock: int | None) -> int:
        """Processor time of a thread; 0 before it has begun."""
        return 0 if clock is None else time.clock_gettime_ns(clock)


__all__ = [
    "POLLIN",
    "SHUTDOWN_WAKES",
    "arrives",
    "boot_id",
    "boottime_ns",
    "boottime_s",
    "bound_retransmission",
    "cpu_clock",
    "cpu_ns",
    "poll",
    "to_background",
]
