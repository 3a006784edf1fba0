"""What alerting asks of the store. Guarantees as in `shared.store.ports`: conditional writes have one winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from shared.model.alert import Alert, DeadLetter, DeadLetterKind, Delivery, Group, Silence
from shared.model.event_fact import EventFact
from shared.store.ports import Page, Versioned


class Alerts(Protocol):
    async def open(self) -> list[Versioned[Alert]]:
        """All alerts that are not put away, cluster by cluster."""

    async def open_of(self, cluster: str) -> list[Versioned[Alert]]:
        """Those of one cluster (FLEET: about all of them); no other cluster's are read."""

    async def get(self, key: str) -> Versioned[Alert] | None: ...

    async def create(self, alert: Alert) -> Versioned[Alert]: ...

    async def replace(self, alert: Alert, etag: str) -> Versioned[Alert]:
        """A resolved alert is also written into the history."""

    async def remove(self, alert: Alert, etag: str) -> None:
        """Forgets a pending alert, or puts a resolved one away: it stays in the history."""

    async def history(self, month: date, after: str | None, limit: int) -> Page[Alert]:
        """Resolved alerts of a month, newest first."""

    async def purge_history(self, before: date, limit: int) -> int:
        """Removes at most `limit` rows of months before that day's; returns how many."""


class Groups(Protocol):
    async def get(self, key: str) -> Versioned[Group] | None: ...

    async def put(self, group: Group, etag: str | None) -> Versioned[Group]:
        """Creates (`etag` None, raises Exists) or replaces (raises Changed)."""


class Silences(Protocol):
    async def all(self) -> Sequence[Silence]: ...

    async def get(self, silence_id: str) -> Versioned[Silence] | None: ...

    async def create(self, silence: Silence) -> None: ...

    async def replace(self, silence: Silence, etag: str) -> None: ...

    async def delete(self, silence_id: str) -> None: ...


class EventFacts(Protocol):
    async def merge(self, fact: EventFact) -> EventFact:
        """Keeps the newer of the stored fact and this one (`shared.model.event_fact.newer`) and returns it."""

    async def of_cluster(self, cluster: str) -> list[EventFact]: ...

    async def open(self) -> list[EventFact]:
        """The facts of all clusters that are open."""

    async def purge(self, cluster: str) -> int:
        """Removes the facts of a cluster; returns how many."""


class Deliveries(Protocol):
    async def add(self, delivery: Delivery) -> bool:
        """True if it is new: a delivery of that id that is waiting or done is left as it is."""

    async def waiting(self, limit: int) -> list[Versioned[Delivery]]: ...

    async def replace(self, delivery: Delivery, etag: str) -> Versioned[Delivery]: ...

    async def finish(self, delivery: Delivery, etag: str) -> None:
        """Done: it will never be added again."""

    async def purge_done(self, before: date, limit: int) -> int: ...


class DeadLetters(Protocol):
    async def record(self, letter: DeadLetter) -> None:
        """Once per kind and id."""

    async def page(self, kind: DeadLetterKind, after: str | None, limit: int) -> Page[DeadLetter]:
        """Newest first."""

    async def purge(self, before: datetime, limit: int) -> int: ...


@dataclass(frozen=True)
class AlertStore:
    alerts: Alerts
    groups: Groups
    silences: Silences
    event_facts: EventFacts
    deliveries: Deliveries
    dead_letters: DeadLetters
