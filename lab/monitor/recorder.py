"""What Azure Monitor knows of the load balancers: samples of their probes, as metrics per minute and as health events.

DipAvailability (Health Probe Status) is the share of samples in which a backend was up, VipAvailability (Data Path
Availability) the share in which at least one was: learn.microsoft.com, "Standard Load Balancer diagnostics with
metrics, alerts, and resource health". A balancer without any backend up writes `NoHealthyBackends` into ALBHealthEvent,
once each time (learn.microsoft.com, "Azure Load Balancer health event logs").
Different from Azure: a sample every SAMPLE_S, no ingestion delay; Azure measures the data path by traffic of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from lab.arm.provider import LoadBalancer
from lab.lb.balancer import MemberHealth
from lab.lb.config import members_of

SAMPLE_S: Final = 5.0
KEPT: Final = timedelta(hours=1)
MAX_SAMPLES: Final = int(KEPT.total_seconds() / SAMPLE_S)
MAX_EVENTS: Final = 1000
MINUTE: Final = timedelta(minutes=1)
NO_BACKENDS: Final = "NoHealthyBackends"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """`up`: private address of each backend → whether its probe succeeds."""

    at: datetime
    up: dict[str, bool]

    @property
    def serves(self) -> bool:
        return any(self.up.values())


@dataclass(frozen=True, slots=True)
class HealthEvent:
    at: datetime
    type: str
    severity: str
    description: str


@dataclass
class _Known:
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    events: deque[HealthEvent] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))


class Recorder:
    """`balancers` and `health` are the fabric's; `now` is the wall clock of the machine."""

    def __init__(
        self,
        balancers: Callable[[], Iterable[LoadBalancer]],
        health: Callable[[str], Awaitable[Sequence[MemberHealth]]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._balancers = balancers
        self._health = health
        self._now = now
        self._known: dict[str, _Known] = defaultdict(_Known)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        """Of every balancer. One that cannot be asked (it is just being changed) has a gap, as on Azure."""
        for balancer in tuple(self._balancers()):
            try:
                found = await self._health(balancer.id)
            except OSError as error:
                logger.info("balancer %s does not tell its health: %s", balancer.name, error)
                continue
            up: dict[str, bool] = {}
            addresses = {m.name: m.address for m in members_of(balancer, [pool.id for pool in balancer.pools])}
            for member in found:
                if member.member in addresses:  # several probes: all must succeed
                    address = addresses[member.member]
                    up[address] = up.get(address, True) and member.up
            self._keep(balancer.id, Sample(self._now(), up))

    def _keep(self, balancer_id: str, sample: Sample) -> None:
        known = self._known[balancer_id.lower()]
        before = known.samples[-1] if known.samples else None
        known.samples.append(sample)
        if sample.up and not sample.serves and (before is None or before.serves or not before.up):
            known.events.append(HealthEvent(sample.at, NO_BACKENDS, "Critical", "no backend answers its health probe"))

    # --- asking ------------------------------------------------------------------------------------------------------
    def knows(self, balancer_id: str) -> bool:
        return balancer_id.lower() in self._known

    def backends(self, balancer_id: str, start: datetime, end: datetime) -> dict[str, dict[datetime, float]]:
        """Per backend address: per minute, the share of samples (0 to 100) in which its probe succeeded."""
        found: dict[str, dict[datetime, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for sample in self._between(balancer_id, start, end):
            for address, up in sample.up.items():
                found[address][_minute(sample.at)].append(up)
        return {address: _shares(minutes) for address, minutes in found.items()}

    def frontend(self, balancer_id: str, start: datetime, end: datetime) -> dict[datetime, float]:
        found: dict[datetime, list[bool]] = defaultdict(list)
        for sample in self._between(balancer_id, start, end):
            if sample.up:
                found[_minute(sample.at)].append(sample.serves)
        return _shares(found)

    def events(self, balancer_id: str, since: datetime) -> list[HealthEvent]:
        """Newest first."""
        known = self._known.get(balancer_id.lower())
        return [] if known is None else [event for event in reversed(known.events) if event.at >= since]

    def _between(self, balancer_id: str, start: datetime, end: datetime) -> list[Sample]:
        """From the minute `start` lies in, as Azure aligns to the grain."""
        known = self._known.get(balancer_id.lower())
        return [] if known is None else [sample for sample in known.samples if _minute(start) <= sample.at <= end]


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _shares(minutes: dict[datetime, list[bool]]) -> dict[datetime, float]:
    return {minute: 100.0 * sum(seen) / len(seen) for minute, seen in sorted(minutes.items())}
