"""After a planned hand-over, the old primary passes new connections on to the new one.

Problem: the load balancer goes on choosing the old primary until its probe of that node fails, up to interval ×
threshold after the hand-over. Without a relay every new connection of that time is refused, although the application
already runs, or is about to run, next door.
Guarantee: it forwards service ports to the peer's private address and nowhere else; a connection is held, not refused,
while the peer's application is still starting; a half-closed connection stays half open. After `close` returns no
socket of the relay is left, so the ports are free for this node's own application. A connection from the peer itself
is refused: two relays can never send one connection round in circles.
Limits: TCP over IPv4. The application sees this node's address instead of the client's, for these seconds only.
MAX_CONNECTIONS at once, BUFFER_BYTES in each direction of each; when the window is over it accepts nothing more, and
what is in flight has FLIGHT_S to finish. It decides nothing: `node.handover` says when it may run.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.eventlog import RecordEvent
from mirror_agent.platform import HOST

MAX_CONNECTIONS: Final = 512
BACKLOG: Final = 128
BUFFER_BYTES: Final = 64 * 1024
FLIGHT_S: Final = 30.0
DIAL_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 0.02
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER, 0 s: no TIME_WAIT is left on a service port
assert MAX_CONNECTIONS * 2 * BUFFER_BYTES <= 64 * 1024 * 1024, "the relay's buffers stay below 64 MiB"


class HandoverRelay:
    """One relay of one node; all methods belong to one event loop."""

    def __init__(
        self,
        *,
        address: str,
        peer_address: str,
        ports: Sequence[int],
        log: RecordEvent,
        clock: Clock = BOOT_CLOCK,
    ) -> None:
        """Listens on `address`, connects to `peer_address`, on the same ports."""
        self._address = address
        self._peer_address = peer_address
        self._ports = tuple(ports)
        self._log = log
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[tuple[socket.socket, Callable[[], None]]] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._landed = asyncio.Event()
        self._turn = {port: asyncio.Lock() for port in self._ports}
        self._reached: set[int] = set()
        self._until = 0.0
        self._carried = 0
        self._failed = 0
        self._refused = 0

    @property
    def active(self) -> bool:
        """It holds sockets on service ports, or is about to."""
        return self._task is not None

    @property
    def accepting(self) -> bool:
        """The load balancer may still choose this node."""
        return self._task is not None and self._clock.now_s() < self._until

    def open(self, *, window_s: float) -> None:
        """Accept for `window_s` from now; does nothing when it runs already, or without service ports."""
        if self._task is None and self._ports:
            self._until = self._clock.now_s() + window_s
            self._task = asyncio.create_task(self._run(window_s), name="handover-relay")

    async def close(self) -> None:
        """Reset what is in flight; when this returns the ports are free."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._task is task:  # cancelled before its first step
                self._task = None

    async def _run(self, window_s: float) -> None:
        self._carried = self._failed = self._refused = 0
        self._reached.clear()
        ended = "closed"
        try:
            for port in self._ports:
                self._listen(port)
            self._log("relay.open", ports=list(self._ports), peer=self._peer_address, window_s=window_s)
            await self._clock.sleep(window_s)
            self._stop_accepting()
            self._log("relay.window-over", in_flight=len(self._flights))
            await self._all_landed()
            ended = "finished"
        finally:
            self._stop_accepting()
            flights = tuple(self._flights)
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
            self._log(
                "relay.ended",
                how=ended,
                carried=self._carried,
                failed=self._failed,
                refused=self._refused,
                cut=len(flights),
            )
            self._task = None

    async def _all_landed(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(FLIGHT_S))
        try:
            while self._flights and not sleeping.done():
                self._landed.clear()
                landing = asyncio.ensure_future(self._landed.wait())
                await asyncio.wait({sleeping, landing}, return_when=asyncio.FIRST_COMPLETED)
                landing.cancel()
        finally:
            sleeping.cancel()

    # -- accepting --------------------------------------------------------------------------------------------------

    def _listen(self, port: int) -> None:
        try:
            listener = socket.create_server((self._address, port), backlog=BACKLOG)
        except OSError as error:
            # Something else holds the port: clients of this port wait for the probe, as they would without a relay.
            self._log("relay.port-not-taken", port=port, reason=error.strerror or str(error))
            return
        listener.setblocking(False)
        stop = HOST.each_connection(listener, partial(self._take, port), partial(self._cannot_accept, port))
        self._listeners.append((listener, stop))

    def _stop_accepting(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener, stop in listeners:
            stop()
            listener.close()

    def _cannot_accept(self, port: int, error: OSError) -> None:
        """No descriptors left, for one: better no relay than a loop that spins."""
        self._log("relay.accept-failed", port=port, reason=error.strerror or str(error))
        self._stop_accepting()

    def _take(self, port: int, client: socket.socket, source: tuple[str, int]) -> None:
        if source[0] == self._peer_address or len(self._flights) >= MAX_CONNECTIONS:
            self._refused += 1
            _reset(client)
            return
        client.setblocking(False)
        flight = asyncio.create_task(self._carry(client, port), name=f"relay-{port}")
        self._flights.add(flight)
        flight.add_done_callback(lambda done: self._land(done, client))

    def _land(self, flight: asyncio.Task[None], client: socket.socket) -> None:
        client.close()  # a task that is cancelled before its first step never runs its `finally`
        self._flights.discard(flight)
        self._landed.set()
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._log("relay.flight-crashed", error=f"{type(error).__name__}: {error}")

    # -- carrying ---------------------------------------------------------------------------------------------------

    async def _carry(self, client: socket.socket, port: int) -> None:
        """One connection, until both directions are at their end or one of them breaks."""
        upstream: socket.socket | None = None
        whole = False
        try:
            upstream = await self._reach_peer(port)
            if upstream is None:
                self._failed += 1
            else:
                self._carried += 1
                whole = await _both_ways(client, upstream)
        finally:
            # One side has gone: the other one must see that, and at once.
            end = socket.socket.close if whole else _reset
            end(client)
            if upstream is not None:
                end(upstream)

    async def _reach_peer(self, port: int) -> socket.socket | None:
        """A connection to the peer's application, waiting for its start; None when the window ended before.

        Until the port was reached once, one connection knocks for all.
        """
        while self._clock.now_s() < self._until:
            turn = contextlib.nullcontext() if port in self._reached else self._turn[port]
            async with turn:
                try:
                    found = await self._dial(port)
                except (OSError, TimeoutError):
                    self._reached.discard(port)
                    await self._clock.sleep(RETRY_S)
                else:
                    self._reached.add(port)
                    return found
        return None

    async def _dial(self, port: int) -> socket.socket:
        upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        upstream.setblocking(False)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(upstream, (self._peer_address, port))
        except BaseException:
            upstream.close()
            raise
        return upstream


async def _both_ways(client: socket.socket, upstream: socket.socket) -> bool:
    """False when a direction broke before its end."""
    whole = True
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_pump(client, upstream))
            directions.create_task(_pump(upstream, client))
    except* OSError:
        whole = False
    return whole


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until `source` says that no more will come, and pass that on."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, BUFFER_BYTES):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN: what was not delivered is lost, and the other side knows."""
    with contextlib.suppress(OSError):  # already closed
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    connection.close()
