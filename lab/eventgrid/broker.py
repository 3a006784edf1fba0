"""Delivers events to webhooks: at least once, in no order, with Event Grid's retries and dead letters.

Facts copied (learn.microsoft.com, "Event Grid delivery and retry", "Webhook event delivery"): success is 200–204; 400,
401 and 413 are not retried; otherwise the next attempt follows 10 s, 30 s, 1 min, 5 min, 10 min, 30 min, 1 h… later,
with a little randomness, at most 30 attempts and 24 h; the webhook has 30 s to answer; an endpoint proves itself by a
handshake before it gets anything. `Retry.scale` shortens the waiting for the lab. `Chaos` adds the duplicates and the
disorder that Azure may show any day. Limits: pending events live in memory and are lost with the lab; no batching.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import random
import ssl as tls
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from lab.arm.events import ResourceEvent
from lab.eventgrid.model import Event, Schema, Subscription, Topic, from_resource_event

log = logging.getLogger(__name__)

ORIGIN = "eventgrid.azure.net"
SUCCESS = frozenset({200, 201, 202, 203, 204})
FINAL = frozenset({400, 401, 413})
MAX_PENDING = 10_000
PARALLEL_PER_SUBSCRIPTION = 8


class HandshakeFailed(Exception):
    """The webhook did not prove that it wants events; the subscription is not made."""


class TooManyPending(Exception):
    """The broker holds `MAX_PENDING` undelivered events."""


@dataclass(frozen=True, slots=True)
class Retry:
    delays_s: tuple[float, ...] = (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200)  # the last one repeats
    scale: float = 1.0
    jitter: float = 0.1
    max_attempts: int = 30
    ttl_s: float = 24 * 3600
    answer_s: float = 30

    def delay_s(self, attempt: int, roll: float) -> float:
        """Before attempt `attempt` + 1 (attempts count from 1); `roll` in [0, 1)."""
        base = self.delays_s[min(attempt, len(self.delays_s)) - 1]
        return base * self.scale * (1 + self.jitter * roll)


@dataclass(frozen=True, slots=True)
class Chaos:
    """`duplicates`: share of events delivered twice. `disorder_s`: events wait up to this long before the first try."""

    duplicates: float = 0.0
    disorder_s: float = 0.0
    seed: int = 0


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Broker:
    """Use as `async with Broker(...) as broker:`; leaving it drops what is pending."""

    def __init__(
        self,
        *,
        dead_letters: Path | None = None,
        retry: Retry | None = None,
        chaos: Chaos | None = None,
        ssl: tls.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`ssl`: what to trust at https webhooks (the lab's authority); None: the system's."""
        self._dead_letters = dead_letters
        self._retry = retry or Retry()
        self._chaos = chaos or Chaos()
        self._random = random.Random(self._chaos.seed)
        self._sleep = sleep
        self._ssl: tls.SSLContext | bool = ssl if ssl is not None else True
        self._session: aiohttp.ClientSession | None = None
        self._topics: dict[str, Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Broker:
        timeout = aiohttp.ClientTimeout(total=self._retry.answer_s)
        self._session = aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "Mirrorplane-lab-event-grid"})
        return self

    async def __aexit__(self, *_details: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # --- topics and subscriptions ----------------------------------------------------------------------------------
    def add_topic(self, topic: Topic) -> None:
        self._topics[topic.name.lower()] = topic

    def topic(self, name: str) -> Topic | None:
        return self._topics.get(name.lower())

    async def subscribe(self, subscription: Subscription) -> None:
        """Create or replace. Raises `HandshakeFailed`, or ValueError for an unknown topic or an impossible schema."""
        topic = self.topic(subscription.topic)
        if topic is None:
            raise ValueError(f"no topic {subscription.topic!r}; there are {sorted(self._topics)}")
        if topic.schema is Schema.CLOUD_EVENTS and subscription.schema is Schema.EVENT_GRID:
            raise ValueError("a topic that takes CloudEvents cannot deliver in the Event Grid schema")
        await self._shake_hands(subscription)
        self._subscriptions[subscription.name.lower()] = subscription
        self._slots.setdefault(subscription.name.lower(), asyncio.Semaphore(PARALLEL_PER_SUBSCRIPTION))

    def unsubscribe(self, name: str) -> None:
        self._subscriptions.pop(name.lower(), None)

    async def _shake_hands(self, subscription: Subscription) -> None:
        try:
            match subscription.schema:
                case Schema.EVENT_GRID:
                    await self._validate_by_event(subscription)
                case Schema.CLOUD_EVENTS:
                    await self._validate_by_options(subscription)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HandshakeFailed(f"webhook of {subscription.name}: {type(error).__name__}") from error

    async def _validate_by_event(self, subscription: Subscription) -> None:
        code = str(uuid.uuid4())
        topic = self._topics[subscription.topic.lower()]
        event = Event(
            id=str(uuid.uuid4()),
            type="Microsoft.EventGrid.SubscriptionValidationEvent",
            source=topic.id,
            subject="",
            time_utc=utc_now(),
            data={"validationCode": code, "validationUrl": ""},
            data_version="2",
        )
        status, text = await self._post(subscription, event, 0, kind="SubscriptionValidation")
        try:
            answered = json.loads(text)["validationResponse"] if status == 200 else None
        except (ValueError, KeyError, TypeError):
            answered = None
        if answered != code:
            raise HandshakeFailed(f"webhook of {subscription.name} answered {status} without the validation code")

    async def _validate_by_options(self, subscription: Subscription) -> None:
        """CloudEvents HTTP webhook specification 1.0, abuse protection."""
        headers = {"WebHook-Request-Origin": ORIGIN, "aeg-event-type": "SubscriptionValidation"}
        async with self._http().options(subscription.webhook, headers=headers, ssl=self._ssl) as answer:
            allowed = answer.headers.get("WebHook-Allowed-Origin", "")
            if answer.status not in SUCCESS or allowed not in ("*", ORIGIN):
                raise HandshakeFailed(
                    f"webhook of {subscription.name} answered {answer.status}, WebHook-Allowed-Origin {allowed!r}"
                )

    # --- publishing ------------------------------------------------------------------------------------------------
    def publish(self, topic: Topic, event: Event) -> None:
        """Returns at once. Raises `TooManyPending`."""
        if len(self._tasks) >= MAX_PENDING:
            raise TooManyPending(f"{MAX_PENDING} events are waiting for their webhooks")
        for subscription in self._subscriptions.values():
            if subscription.topic.lower() != topic.name.lower() or not subscription.wants(event):
                continue
            copies = 2 if self._random.random() < self._chaos.duplicates else 1
            for _ in range(copies):
                wait_s = self._random.random() * self._chaos.disorder_s
                task = asyncio.create_task(self._deliver(subscription, event, wait_s), name=f"event {event.id}")
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    def publish_resource_event(self, topic_name: str) -> Callable[[ResourceEvent], None]:
        """The `EventSink` of an ARM service: its changes go to the system topic `topic_name`, which must exist."""
        topic = self.topic(topic_name)
        if topic is None:
            raise ValueError(f"no topic {topic_name!r}; there are {sorted(self._topics)}")

        def sink(event: ResourceEvent) -> None:
            try:
                self.publish(topic, from_resource_event(event))
            except TooManyPending as full:
                log.error("event %s of %s is dropped: %s", event.type, event.resource_id, full)

        return sink

    async def idle(self) -> None:
        """Returns when nothing is pending."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("delivery broke: %s", task.get_name(), exc_info=task.exception())

    # --- delivering ------------------------------------------------------------------------------------------------
    async def _deliver(self, subscription: Subscription, event: Event, wait_s: float) -> None:
        if wait_s:
            await self._sleep(wait_s)
        published, waited_s, outcome = utc_now(), 0.0, ""
        for attempt in range(1, self._retry.max_attempts + 1):
            outcome, final = await self._attempt(subscription, event, attempt)
            if outcome == "Success":
                return
            if final:
                self._bury(subscription, event, outcome, outcome, attempt, published)
                return
            delay_s = self._retry.delay_s(attempt, self._random.random())
            waited_s += delay_s
            if waited_s >= self._retry.ttl_s:
                self._bury(subscription, event, "TimeToLiveExceeded", outcome, attempt, published)
                return
            if attempt < self._retry.max_attempts:
                await self._sleep(delay_s)
        self._bury(subscription, event, "MaxDeliveryAttemptsExceeded", outcome, self._retry.max_attempts, published)

    async def _attempt(self, subscription: Subscription, event: Event, attempt: int) -> tuple[str, bool]:
        """(outcome, whether trying again is pointless)."""
        async with self._slots[subscription.name.lower()]:
            try:
                status, _text = await self._post(subscription, event, attempt - 1, kind="Notification")
            except TimeoutError:
                return "TimedOut", False
            except aiohttp.ClientError as error:
                log.info("event %s to %s: %s", event.id, subscription.name, type(error).__name__)
                return "Unreachable", False
        if status in SUCCESS:
            return "Success", True
        names = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 413: "RequestEntityTooLarge", 503: "Busy"}
        return names.get(status, f"GenericError{status}"), status in FINAL

    async def _post(self, subscription: Subscription, event: Event, count: int, *, kind: str) -> tuple[int, str]:
        headers = {
            "aeg-event-type": kind,
            "aeg-subscription-name": subscription.name.upper(),
            "aeg-delivery-count": str(count),
            "aeg-data-version": event.data_version,
            "aeg-metadata-version": "1",
        }
        body: Any = event.render(subscription.schema)
        if subscription.schema is Schema.EVENT_GRID:
            body, headers["Content-Type"] = [body], "application/json; charset=utf-8"
        else:
            headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
        data = json.dumps(body).encode()
        async with self._http().post(subscription.webhook, data=data, headers=headers, ssl=self._ssl) as answer:
            return answer.status, await answer.text()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the broker is not running; use it as an asynchronous context manager")
        return self._session

    def _bury(
        self, subscription: Subscription, event: Event, reason: str, outcome: str, attempts: int, published: str
    ) -> None:
        log.warning("event %s for %s is a dead letter: %s (%s)", event.id, subscription.name, reason, outcome)
        if self._dead_letters is None:
            return
        letter = event.render(subscription.schema) | {
            "deadLetterReason": reason,
            "deliveryAttempts": attempts,
            "lastDeliveryOutcome": outcome,
            "publishTime": published,
            "lastDeliveryAttemptTime": utc_now(),
            "subscription": subscription.name,
        }
        with self._dead_letters.open("a") as file:
            file.write(json.dumps(letter) + "\n")
