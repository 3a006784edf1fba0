"""Watches the instance metadata service for announced maintenance, and carries out what the rules conclude.

Guarantee: a serving node gives its role away in order before it lets the platform begin; a node that does not serve
lets it begin once its peer serves; nothing waits past NotBefore. Each announcement, each hand-over and each approval is
an event of the log. None of this is part of safety: a maintenance that nobody announced is a failure like any other.
Limits: the metadata service of a machine that is not on Azure is silent; that is logged and asked again, more rarely.
The first call on a new machine may take two minutes (it switches the service on). Approving is repeated until the event
shows as begun, since a lost answer is no approval.
Source: learn.microsoft.com, "Azure Metadata Service: Scheduled Events for Linux VMs", api-version 2020-07-01.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.core.model import Role
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.https import read_bounded
from mirror_agent.net.scheduled_event_rules import Announced, Conclusion, Situation, Step, conclude, left_s

METADATA_URL: Final = "http://169.254.169.254"
EVENTS_VERSION: Final = "2020-07-01"
INSTANCE_VERSION: Final = "2021-02-01"
POLL_S: Final = 1.0
QUIET_POLL_S: Final = 60.0
FIRST_TIMEOUT_S: Final = 130.0
TIMEOUT_S: Final = 5.0
# After so many failures without any answer this is no machine with a metadata service: ask rarely.
FAILURES_UNTIL_QUIET: Final = 10
MAX_EVENTS: Final = 64
_HEADERS: Final = {"Metadata": "true"}
WHO: Final = "scheduled event"


class _Event(BaseModel):
    """Azure may add fields; those are none of our business."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    EventId: str
    EventType: str
    EventStatus: str
    Resources: tuple[str, ...] = ()
    NotBefore: str = ""
    DurationInSeconds: float = -1.0
    EventSource: str = "Platform"


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    Events: tuple[_Event, ...] = Field(default=(), max_length=MAX_EVENTS)


@dataclass(frozen=True)
class NodeFacts:
    """`peer_ready`: a replica in sync stands by to take the role. `relaying`: new connections for the role that
    was given away still come here. `bridged_s`: how long a pause the pair does not notice."""

    role: Role
    peer_ready: bool
    peer_serves: bool
    bridged_s: float
    relaying: bool = False


class HandOver(Protocol):
    """Give the role away in order, within `within_s` if that is known; (succeeded, message)."""

    def __call__(self, *, who: str, why: str, within_s: float | None) -> Awaitable[tuple[bool, str]]: ...


class MetadataFailed(Exception):
    """The service did not answer, or not as documented."""


class ScheduledEventWatch:
    def __init__(
        self,
        *,
        facts: Callable[[], NodeFacts],
        hand_over: HandOver,
        log: RecordEvent,
        judge: Callable[[Announced, Situation], Conclusion] = conclude,
        on_quiet: Callable[[], None] = lambda: None,
        url: str = METADATA_URL,
        clock: Clock = BOOT_CLOCK,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`judge`: the rules; `on_quiet` is called in every round in which nothing is announced for this machine."""
        self._facts = facts
        self._hand_over = hand_over
        self._log = log
        self._judge = judge
        self._on_quiet = on_quiet
        self._url = url
        self._clock = clock
        self._utc_now = utc_now
        self._machine = ""
        self._switched_on = False
        self._failures = 0
        self._concluded: dict[str, Conclusion] = {}
        self._approved: set[str] = set()
        self._handing_over: asyncio.Task[tuple[bool, str]] | None = None
        self._failed_at: datetime | None = None

    async def run(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=FIRST_TIMEOUT_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout, headers=_HEADERS) as session:
                while True:
                    await self._clock.sleep(await self._guarded_look(session))
        finally:
            if self._handing_over is not None:
                self._handing_over.cancel()
                await asyncio.gather(self._handing_over, return_exceptions=True)

    async def _guarded_look(self, session: aiohttp.ClientSession) -> float:
        try:
            return await self._look(session)
        except Exception as error:  # noqa: BLE001 - without announcements the node serves on; it must not end for them
            self._log("scheduled-events.failed", error=f"{type(error).__name__}: {error}")
            return QUIET_POLL_S

    async def _look(self, session: aiohttp.ClientSession) -> float:
        """One round; the answer is the pause until the next one."""
        try:
            if not self._machine:
                self._machine = await self._name(session)
            events = await self._events(session)
            approved = [event.id for event in events if self._act(event) is Step.APPROVE]
            if approved:
                await self._approve(session, approved)
        except MetadataFailed as error:
            self._failures += 1
            if self._failures in (1, FAILURES_UNTIL_QUIET):
                self._log("scheduled-events.unreachable", reason=str(error), failures=self._failures)
            absent = not self._machine and self._failures >= FAILURES_UNTIL_QUIET
            return QUIET_POLL_S if absent else POLL_S
        if self._failures:
            self._log("scheduled-events.reached", failures=self._failures)
        self._failures = 0
        self._forget(events)
        if not any(self._machine in event.machines for event in events):
            self._on_quiet()
        return POLL_S

    # -- the node -------------------------------------------------------------------------------------------------

    def _act(self, event: Announced) -> Step:
        facts = self._facts()
        here = Situation(
            machine=self._machine,
            role=facts.role,
            peer_ready=facts.peer_ready,
            peer_serves=facts.peer_serves,
            bridged_s=facts.bridged_s,
            relaying=facts.relaying,
            now=self._utc_now(),
            handing_over=self._handing_over is not None,
            failed_at=self._failed_at,
        )
        conclusion = self._judge(event, here)
        self._note(event, conclusion, here)
        if conclusion.step is Step.HAND_OVER:
            why = f"{event.type} of {self._machine} is announced (event {event.id})"
            within_s = left_s(event, here.now)
            working = asyncio.ensure_future(self._hand_over(who=WHO, why=why, within_s=within_s))
            self._handing_over = working
            working.add_done_callback(self._handed_over)
        return conclusion.step

    def _handed_over(self, done: asyncio.Future[tuple[bool, str]]) -> None:
        self._handing_over = None
        if done.cancelled():
            return
        error = done.exception()
        succeeded, message = (False, f"{type(error).__name__}: {error}") if error is not None else done.result()
        if not succeeded:
            self._failed_at = self._utc_now()
        self._log("scheduled-event.handed-over", succeeded=succeeded, message=message)

    def _note(self, event: Announced, conclusion: Conclusion, here: Situation) -> None:
        """Every change of mind about an event, once."""
        if self._concluded.get(event.id) == conclusion:
            return
        self._concluded[event.id] = conclusion
        self._log(
            "scheduled-event.concluded",
            id=event.id,
            type=event.type,
            machines=list(event.machines),
            left_s=left_s(event, here.now),
            duration_s=event.duration_s,
            role=here.role.value,
            step=conclusion.step.value,
            rule=conclusion.rule,
            sentence=conclusion.sentence,
        )

    def _forget(self, events: list[Announced]) -> None:
        present = {event.id for event in events}
        self._concluded = {name: kept for name, kept in self._concluded.items() if name in present}
        self._approved &= present
        if not present:
            self._failed_at = None  # another announcement is another matter

    # -- the service ----------------------------------------------------------------------------------------------

    async def _name(self, session: aiohttp.ClientSession) -> str:
        query = {"api-version": INSTANCE_VERSION, "format": "text"}
        return (await self._get(session, "/metadata/instance/compute/name", query)).decode(errors="replace").strip()

    async def _events(self, session: aiohttp.ClientSession) -> list[Announced]:
        body = await self._get(session, "/metadata/scheduledevents", {"api-version": EVENTS_VERSION})
        self._switched_on = True
        try:
            return [_announced(event) for event in _Document.model_validate_json(body).Events]
        except ValidationError as error:
            raise MetadataFailed(f"not a document of scheduled events: {error.error_count()} errors") from None

    async def _get(self, session: aiohttp.ClientSession, path: str, query: dict[str, str]) -> bytes:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S if self._switched_on else FIRST_TIMEOUT_S)
        try:
            async with session.get(self._url + path, params=query, timeout=timeout, allow_redirects=False) as answer:
                body = await read_bounded(answer)
                if answer.status != 200:
                    raise MetadataFailed(f"{path} answered {answer.status}")
                return body
        except TimeoutError:
            raise MetadataFailed(f"{path} did not answer in {timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise MetadataFailed(f"{path}: {error}") from None

    async def _approve(self, session: aiohttp.ClientSession, ids: list[str]) -> None:
        body = {"StartRequests": [{"EventId": name} for name in ids]}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        query = {"api-version": EVENTS_VERSION}
        try:
            async with session.post(
                f"{self._url}/metadata/scheduledevents", params=query, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise MetadataFailed(f"the approval was answered {answer.status}")
        except TimeoutError:
            raise MetadataFailed(f"the approval was not answered in {TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise MetadataFailed(f"the approval: {error}") from None
        news = [name for name in ids if name not in self._approved]
        if news:  # the platform may take its time to begin, and is asked again every second
            self._approved.update(news)
            self._log("scheduled-event.approved", ids=news)


def _announced(event: _Event) -> Announced:
    return Announced(
        id=event.EventId,
        type=event.EventType,
        scheduled=event.EventStatus == "Scheduled",
        machines=event.Resources,
        not_before=_moment(event.NotBefore),
        duration_s=event.DurationInSeconds,
        by_user=event.EventSource == "User",
    )


def _moment(text: str) -> datetime | None:
    """An HTTP date; None for "" and for what is no date: then the platform alone knows when it begins."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
