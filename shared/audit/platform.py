"""Azure's own view of a cluster, as a port: instance view, resource health, load-balancer metrics and log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.health.facts import CollectorFailed, Fact, FactKind, Trust
from shared.model.cluster import ClusterRecord


class Platform(Protocol):
    async def look(self, record: ClusterRecord, now: datetime) -> list[Fact]:
        """Never raises, and ends within its deadline: a source that does not answer is a fact."""


@dataclass(frozen=True, slots=True)
class BlindPlatform:
    """No way to Azure (a control plane without an identity, a unit test): says so."""

    reason: str = "the control plane has no access to Azure's monitoring"

    async def look(self, record: ClusterRecord, now: datetime) -> list[Fact]:
        failed = CollectorFailed("platform", self.reason)
        return [Fact(FactKind.COLLECTOR_FAILED, None, "platform", now, Trust.PLATFORM, failed)]
