"""The node's line to the control plane: heartbeats out, commands and configuration in.

Problem: the control plane may be away for hours and the pair must not notice; when it comes back, it wants the history,
and a whole fleet must not fall over it at once.
Guarantee: a sample every `interval_s` and at every `poke`; samples wait in memory (oldest dropped, counted) and go out
oldest first, at most MAX_HEARTBEATS_PER_POST at a time; failures back off with jitter up to LONGEST_DELAY_S. A command
is handed on at most once (see `command_journal`), its result is repeated until confirmed.
Limits: MAX_BUFFERED samples; a batch the control plane calls invalid (4xx) is dropped but for the newest sample, since
it would be refused for ever. Nothing of this decides anything on the node: the pair works on without it.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from pydantic import ValidationError

from mirror_agent import __version__
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import (
    MAX_HEARTBEATS_PER_POST,
    Command,
    CommandResult,
    Configuration,
    Heartbeat,
    HeartbeatPost,
    HeartbeatResponse,
    OrderNote,
    RolloutOrder,
    TrustOrder,
)
from mirror_agent.eventlog import Event, RecordEvent
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.command_journal import MAX_RESULTS_PER_POST, CommandJournal
from mirror_agent.net.https import control_plane_session, read_bounded, require_https
from mirror_agent.net.order_outbox import OrderOutbox
from mirror_agent.paths import NODE_PATHS, Paths
from mirror_agent.redaction import redact_text

MAX_BUFFERED: Final = 20 * MAX_HEARTBEATS_PER_POST
REQUEST_TIMEOUT_S: Final = 10.0
# After a body with orders was refused; then it is tried again.
ORDERS_HELD_S: Final = 300.0
# Says that this very body is wrong; anything else may be better next time.
INVALID_BODY: Final = frozenset({400, 413, 422})
assert MAX_RESULTS_PER_POST <= 32, "HeartbeatPost.command_results"


@dataclass(frozen=True)
class ControlPlaneLink:
    """How the line is: for `mirrorctl status`."""

    connected: bool
    last_success_s_ago: float | None
    buffered: int
    dropped: int
    last_error: str


class HeartbeatBuffer:
    """Samples that are not delivered yet, oldest first; full means that the oldest goes."""

    def __init__(self, limit: int = MAX_BUFFERED) -> None:
        self._limit = limit
        self._entries: deque[tuple[int, Heartbeat]] = deque()
        self._next = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, heartbeat: Heartbeat) -> None:
        if len(self._entries) >= self._limit:
            self._entries.popleft()
            self.dropped += 1
        self._entries.append((self._next, heartbeat))
        self._next += 1

    def first(self) -> tuple[int, tuple[Heartbeat, ...]]:
        """The oldest batch, and the number to `forget` once it is delivered."""
        batch = [self._entries[index] for index in range(min(len(self._entries), MAX_HEARTBEATS_PER_POST))]
        return batch[-1][0], tuple(heartbeat for _, heartbeat in batch)

    def forget(self, number: int) -> None:
        while self._entries and self._entries[0][0] <= number:
            self._entries.popleft()

    def keep_newest(self) -> None:
        self.dropped += len(self._entries) - 1
        while len(self._entries) > 1:
            self._entries.popleft()


@dataclass(frozen=True)
class _Failed:
    reason: str
    invalid_body: bool = False
    retry_after: str | None = None


class ControlPlaneClient:
    def __init__(
        self,
        *,
        url: str,
        credential: str,
        configuration_version: int,
        interval_s: float,
        sample: Callable[[], Heartbeat],
        on_command: Callable[[Command], None],
        on_configuration: Callable[[Configuration], None],
        on_revoked: Callable[[tuple[str, ...] | None], None] = lambda serials: None,
        on_trust: Callable[[TrustOrder | None], None] = lambda order: None,
        on_rollout: Callable[[RolloutOrder | None], None] = lambda order: None,
        log: RecordEvent,
        paths: Paths = NODE_PATHS,
        clock: Clock = BOOT_CLOCK,
        jitter: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """ValueError for an address that is not https. The callbacks run on the loop and must not block."""
        self._address = f"{require_https(url)}/api/nodes/heartbeat"
        self._credential = credential
        self._version = configuration_version
        self._interval_s = interval_s
        self._sample = sample
        self._on_command = on_command
        self._on_configuration = on_configuration
        self._on_revoked = on_revoked
        self._on_trust = on_trust
        self._on_rollout = on_rollout
        self._log = log
        self._clock = clock
        self._tls = tls
        self._back_off = BackOff(jitter)
        self._poked = asyncio.Event()
        self._journal = CommandJournal(paths.command_journal, log)
        self._orders = OrderOutbox(paths.order_outbox, log, changed=self.poke, clock=clock)
        self._orders_held_until_s = 0.0
        self._one_order_at_a_time = False
        self._buffer = HeartbeatBuffer()
        self._filled = asyncio.Event()
        self._connected = False
        self._succeeded_at: float | None = None
        self._last_error = ""

    def poke(self) -> None:
        """Something changed: take a sample and send it now."""
        self._poked.set()

    def report(self, result: CommandResult) -> None:
        """The result of a command; repeated until the control plane has confirmed it."""
        self._journal.report(result)
        self.poke()

    def hear(self, event: Event) -> None:
        """An event of the log: what people ordered here is told to the control plane."""
        self._orders.hear(event)

    @property
    def link(self) -> ControlPlaneLink:
        ago = None if self._succeeded_at is None else self._clock.now_s() - self._succeeded_at
        return ControlPlaneLink(self._connected, ago, len(self._buffer), self._buffer.dropped, self._last_error)

    async def run(self) -> None:
        """Until cancelled."""
        async with control_plane_session(REQUEST_TIMEOUT_S, self._tls) as session:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_samples(), name="control-plane-samples")
                group.create_task(self._send(session), name="control-plane-send")
                group.create_task(self._orders.run(), name="control-plane-orders")

    async def _take_samples(self) -> None:
        while True:
            self._poked.clear()
            try:
                self._buffer.add(self._sample())
                self._filled.set()
            except Exception as error:  # noqa: BLE001 - a sample that fails must not silence all later ones
                self._log("control-plane.sample-failed", error=f"{type(error).__name__}: {error}")
            await self._pause()

    async def _pause(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(self._interval_s))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()

    async def _send(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._filled.wait()
            number, heartbeats = self._buffer.first()
            results = self._journal.pending()
            await self._journal.save()
            orders = self._orders_to_send()
            await self._orders.save()
            outcome = await self._post(session, heartbeats, results, orders)
            match outcome:
                case HeartbeatResponse():
                    self._buffer.forget(number)
                    self._journal.confirm(results, outcome.confirmed_results)
                    self._orders_told(outcome.orders_recorded)
                    self._succeeded()
                    await self._take(outcome)
                    if not len(self._buffer):
                        self._filled.clear()
                case _Failed(reason, invalid_body, retry_after):
                    self._failed(reason)
                    if invalid_body and orders:
                        self._hold_orders_back(orders, reason)
                    elif invalid_body:
                        self._buffer.keep_newest()
                    await self._clock.sleep(self._back_off.delay_s(retry_after))

    def _orders_to_send(self) -> tuple[OrderNote, ...]:
        if self._clock.now_s() < self._orders_held_until_s:
            return ()
        pending = self._orders.pending()
        return pending[:1] if self._one_order_at_a_time else pending

    def _orders_told(self, through: int | None) -> None:
        if through is None:
            return
        self._one_order_at_a_time = False
        self._orders.recorded(through)
        if self._orders.pending():
            self.poke()

    def _hold_orders_back(self, orders: tuple[OrderNote, ...], reason: str) -> None:
        """A control plane of an older version refuses a body with orders: heartbeats come first, orders keep. Then the
        oldest goes alone; if that is refused, it is the order that is wrong, and the later ones have their turn."""
        if self._one_order_at_a_time:
            self._orders.give_up(orders[0].number, reason)
        self._one_order_at_a_time = True
        self._orders_held_until_s = self._clock.now_s() + ORDERS_HELD_S
        self._log("control-plane.orders-held-back", reason=reason)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        heartbeats: tuple[Heartbeat, ...],
        results: tuple[CommandResult, ...],
        orders: tuple[OrderNote, ...],
    ) -> HeartbeatResponse | _Failed:
        post = HeartbeatPost(
            agent_version=__version__,
            configuration_version=self._version,
            heartbeats=heartbeats,
            command_results=results,
            order_series=self._orders.series if orders else "",
            orders=orders,
        )
        # what is not there is not said: a control plane of an older version does not know these words
        unsaid = None if orders else {"order_series", "orders"}
        headers = {"Authorization": f"Bearer {self._credential}", "Content-Type": "application/json"}
        try:
            async with session.post(
                self._address,
                data=post.model_dump_json(by_alias=True, exclude=unsaid),
                headers=headers,
                allow_redirects=False,
            ) as answer:
                body = await read_bounded(answer)
                if answer.status != 200:
                    said = redact_text(body[:300].decode(errors="replace"))
                    return _Failed(
                        f"{self._address} answered {answer.status}: {said}",
                        invalid_body=answer.status in INVALID_BODY,
                        retry_after=answer.headers.get("Retry-After"),
                    )
            return HeartbeatResponse.model_validate_json(body)
        except TimeoutError:
            return _Failed(f"{self._address} did not answer in {REQUEST_TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Failed(f"{self._address}: {redact_text(str(error))}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            return _Failed(f"{self._address}: {place}: {first['msg']}; agent {__version__} does not understand it")

    async def _take(self, response: HeartbeatResponse) -> None:
        self._on_revoked(response.revoked_serials)
        self._on_trust(response.trust)
        configuration = response.configuration
        if configuration is not None and configuration.version > self._version:
            try:
                self._on_configuration(configuration)
            except Exception as error:  # noqa: BLE001 - a refused configuration leaves the old one in force, and is seen
                self._log("control-plane.configuration-refused", version=configuration.version, error=str(error))
            else:
                self._version = configuration.version
                self._interval_s = configuration.timing.control_plane_heartbeat_s
        self._on_rollout(response.rollout)
        new = [command for command in response.commands if self._journal.begin(command.id)]
        await self._journal.save()
        for command in new:
            self._log("control-plane.command", id=command.id, action=command.action.value, by=command.requested_by)
            self._hand_on(command)

    def _hand_on(self, command: Command) -> None:
        try:
            self._on_command(command)
        except Exception as error:  # noqa: BLE001 - the control plane must learn of it; the line goes on
            message = f"the agent could not take the command: {type(error).__name__}: {error}"
            self.report(CommandResult(id=command.id, status="failed", message=message[:500]))

    def _succeeded(self) -> None:
        self._back_off.reset()
        self._succeeded_at = self._clock.now_s()
        if not self._connected:
            self._log("control-plane.connected", buffered=len(self._buffer), dropped=self._buffer.dropped)
        self._connected, self._last_error = True, ""

    def _failed(self, reason: str) -> None:
        if self._connected or reason != self._last_error:
            self._log("control-plane.unreachable", reason=reason, buffered=len(self._buffer))
        self._connected, self._last_error = False, reason
