"""Late packets without the kernel's netem: a user-space relay between the two nodes' links in the router.

Packets from one node's link to the other node are routed to a TUN device; a thread reads them, holds each for its
delay, and writes them back, whence the router forwards them. Order is kept in each direction, as on one path of a real
network. Limit: some thousand packets a second; more is delayed further by the relay itself.
"""

from __future__ import annotations

import asyncio
import collections
import fcntl
import os
import random
import select
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from lab.fabric.commands import ip_batch, run
from lab.fabric.namespaces import enter

if TYPE_CHECKING:
    from lab.faults.scene import Scene

DEVICE: Final = "mpdelay"
ROUTES: Final = 77
TUNSETIFF: Final = 0x400454CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
PACKET_BYTES: Final = 65536
QUEUE_PACKETS: Final = 10_000
POLL_S: Final = 0.2


class Relay(threading.Thread):
    """Owns the TUN device inside `namespace`; ends with `stop`."""

    def __init__(self, namespace: str, low_s: float, high_s: float, seed: int) -> None:
        super().__init__(name="delay", daemon=True)
        self._namespace = namespace
        self._low_s, self._high_s = low_s, high_s
        self._random = random.Random(seed)
        self._end = threading.Event()
        self._held: collections.deque[tuple[float, bytes]] = collections.deque()
        self.opened = threading.Event()
        self.error: OSError | None = None
        self.relayed = 0

    def stop(self) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        try:
            enter(self._namespace)
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        except OSError as error:
            self.error = error
            return
        finally:
            self.opened.set()
        try:
            self._relay(descriptor)
        except OSError as error:
            self.error = error
        finally:
            os.close(descriptor)

    def _relay(self, descriptor: int) -> None:
        while not self._end.is_set():
            now = time.monotonic()
            wait_s = max(0.0, self._held[0][0] - now) if self._held else POLL_S
            readable, _, _ = select.select([descriptor], [], [], min(wait_s, POLL_S))
            if readable and len(self._held) < QUEUE_PACKETS:
                self._hold(os.read(descriptor, PACKET_BYTES))
            while self._held and self._held[0][0] <= time.monotonic():
                os.write(descriptor, self._held.popleft()[1])
                self.relayed += 1

    def _hold(self, packet: bytes) -> None:
        due = time.monotonic() + self._random.uniform(self._low_s, self._high_s)
        # One queue for both directions keeps the order in each; a late one holds up the next, as in a real queue.
        self._held.append((max(due, self._held[-1][0]) if self._held else due, packet))


@asynccontextmanager
async def delayed(scene: Scene, *, low_s: float, high_s: float, seed: int = 1) -> AsyncIterator[Relay]:
    """Each packet between the nodes takes `low_s` to `high_s` longer, each way."""
    router = scene.stage.router
    relay = Relay(router, low_s, high_s, seed)
    relay.start()
    await asyncio.to_thread(relay.opened.wait)
    if relay.error is not None:
        raise relay.error
    one, two = scene.place("a").address, scene.place("b").address
    added: list[str] = []
    try:
        # What comes back from the relay is seen a second time: its flows are tracked apart, or answers, which the
        # address groups let through as part of a flow only, would end here.
        zone = f'iifname "{DEVICE}" ct zone set {ROUTES}'
        await scene.rules("relayed", "type filter hook prerouting priority -300", zone)
        await ip_batch(router, [f"link set {DEVICE} up", f"route add default dev {DEVICE} table {ROUTES}"])
        for sender, receiver in ((one, two), (two, one)):
            link = (await run(["ip", "-n", router, "-o", "route", "get", sender])).split(" dev ")[1].split()[0]
            rule = f"iif {link} from {sender} to {receiver} lookup {ROUTES}"
            await ip_batch(router, [f"rule add {rule}"])
            added.append(rule)
        yield relay
    finally:
        await ip_batch(router, [f"rule delete {rule}" for rule in added])
        await asyncio.to_thread(relay.stop)
