"""Signs of life to the service manager, so that an agent that hangs is killed and started again.

Problem: an agent whose loop stands still (a call that never returns, a stopped process) answers no probe and no
heartbeat, while engine and application go on: new connections are refused, and since the mirror's stream lives, the
other node rightly does not take over. Nobody but the service manager of the machine can see that.
Rule: WATCHDOG=1 several times within a time longer than the promise. A loop that stood still for longer than that has
lost the promise it serves under and must begin anew anyway; a shorter pause is none of the service manager's business.
Guarantee: the time follows the configured promise; the unit's own WatchdogSec only covers the start. Saying it never
blocks and never fails the agent. A node that leaves asks for the time its application's stop may take: the unit's own
TimeoutStopSec only covers the usual one.
Limits: on Linux, without NOTIFY_SOCKET (started by hand, or by another service manager) nothing is said and nothing is
watched. On Windows the process watches itself (`HOST.watch_itself`): its service manager knows no such thing.
Sources: sd_notify(3) for the protocol, systemd.service(5), WatchdogSec=: SIGABRT, then Restart= decides;
TimeoutStopSec= and EXTEND_TIMEOUT_USEC=, which lengthens it and never shortens it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, MutableMapping
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.eventlog import RecordEvent
from mirror_agent.platform import HOST

# Beyond the promise: the beats' own spacing, and a machine that is slow to let the agent speak.
BEYOND_PROMISE_S: Final = 2.0
BEATS: Final = 10  # within that time
# After the application has stopped: the copies, the consoles and the children end.
ENDING_S: Final = 60.0
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class ServiceManager:
    """Where to say it; "" is nowhere."""

    def __init__(self, address: str, *, log: RecordEvent) -> None:
        self._address = address
        self._log = log
        self._refused = False
        self._socket: socket.socket | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str], *, log: RecordEvent) -> ServiceManager:
        """Takes the address out of the environment: what the agent starts is not the service and must not speak."""
        found = {name: environment.pop(name, "") for name in _VARIABLES}
        return cls(found["NOTIFY_SOCKET"], log=log)

    def say(self, *lines: str) -> None:
        """One datagram. What cannot be said is lost; the first time it is recorded."""
        if not self._address:
            return
        # A leading "@" is the abstract namespace (sd_notify(3)).
        target = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            if self._socket is None:
                self._socket = HOST.notification_socket()
            self._socket.sendto("\n".join(lines).encode(), target)
            self._refused = False
        except OSError as error:
            if not self._refused:
                self._log("service-manager.unreachable", address=self._address, error=str(error))
            self._refused = True

    def leaving(self, within_s: float) -> None:
        """The node leaves and its application stops within `within_s`: the service manager is to wait for that."""
        self.say(f"EXTEND_TIMEOUT_USEC={round((within_s + ENDING_S) * 1e6)}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextlib.asynccontextmanager
async def kept_alive(manager: ServiceManager, *, promise_s: float, clock: Clock = BOOT_CLOCK) -> AsyncIterator[None]:
    """Says so, from the loop this runs in, until the block ends."""
    limit_s = promise_s + BEYOND_PROMISE_S
    manager.say(f"WATCHDOG_USEC={round(limit_s * 1e6)}", "WATCHDOG=1")
    HOST.watch_itself(limit_s)
    beating = asyncio.create_task(_beat(manager, limit_s, clock), name="keepalive")
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        HOST.watch_itself(0)
        manager.close()


async def _beat(manager: ServiceManager, limit_s: float, clock: Clock) -> None:
    while True:
        await clock.sleep(limit_s / BEATS)
        manager.say("WATCHDOG=1")
        HOST.watch_itself(limit_s)
