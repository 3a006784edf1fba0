"""The metrics of the control plane: every name, its labels, its meaning, and where its value comes from, in one table.

docs/metrics.md is generated from it (`tools/metrics_doc.py`). All are gauges of what was true at `Scrape.now`: the
process that answers is one of many and lives for minutes, so a counter of its own would mean nothing. A value that is
not known has no sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.console.board import Reading
from shared.console.lines import Line
from shared.health.verdict import Health
from shared.model.alert import ACTIVE, FLEET, Alert

OPERATION: Final = "operation"  # the reason to keep still that an operation under way leaves (shared.health)
UNHEALTHY: Final = frozenset({Health.DOWN, Health.EXPOSED, Health.DEGRADED, Health.UNKNOWN})


@dataclass(frozen=True)
class Scrape:
    """What a scrape sees: the board's reading, the open alerts, the clusters with an open incident."""

    reading: Reading
    alerts: Sequence[Alert]
    in_repair: frozenset[str]
    now: datetime


@dataclass(frozen=True)
class Sample:
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Metric:
    name: str
    labels: tuple[str, ...]
    help: str
    samples: Callable[[Scrape], Iterable[Sample]]


def _one(name: str, sentence: str, value: Callable[[Scrape], float | None]) -> Metric:
    def samples(scrape: Scrape) -> list[Sample]:
        found = value(scrape)
        return [] if found is None else [Sample((), float(found))]

    return Metric(f"mirrorplane_{name}", (), sentence, samples)


def _each(name: str, sentence: str, value: Callable[[Line, Scrape], float | None]) -> Metric:
    """One sample per cluster that has the value."""

    def samples(scrape: Scrape) -> list[Sample]:
        found = ((brief.cluster, value(brief.line(), scrape)) for brief in scrape.reading.briefs)
        return [Sample((cluster,), float(one)) for cluster, one in found if one is not None]

    return Metric(f"mirrorplane_{name}", ("cluster",), sentence, samples)


def _counted(
    name: str, labels: tuple[str, ...], sentence: str, words: Callable[[Scrape], Iterable[tuple[str, ...]]]
) -> Metric:
    """How often each combination of the labels' values occurs."""

    def samples(scrape: Scrape) -> list[Sample]:
        counts: Mapping[tuple[str, ...], int] = Counter(words(scrape))
        return [Sample(values, float(count)) for values, count in sorted(counts.items())]

    return Metric(f"mirrorplane_{name}", labels, sentence, samples)


def _clusters(scrape: Scrape) -> list[Sample]:
    return [Sample((state.value,), float(scrape.reading.counts.get(state, 0))) for state in Health]


def _age_s(since: datetime | None, scrape: Scrape) -> float | None:
    return None if since is None else max((scrape.now - since).total_seconds(), 0.0)


def _active(scrape: Scrape) -> list[Alert]:
    return [alert for alert in scrape.alerts if alert.state in ACTIVE]


METRICS: Final = (
    Metric("mirrorplane_clusters", ("verdict",), "Clusters of the fleet by the audit's last verdict.", _clusters),
    _one(
        "audit_age_seconds",
        "Since when the health audit last went through; it runs every 30 s.",
        lambda scrape: _age_s(scrape.reading.audited_at, scrape),
    ),
    _one("storm", "1 while many clusters look sick at once and remediation keeps still.", lambda s: s.reading.storm),
    _one(
        "board_age_seconds",
        "How old the reading is that all figures by cluster are taken from.",
        lambda scrape: _age_s(scrape.reading.read_at, scrape),
    ),
    _one(
        "clusters_in_operation",
        "Clusters with an operation under way, as the audit last saw.",
        lambda scrape: sum(OPERATION in brief.paused_by for brief in scrape.reading.briefs),
    ),
    _one("clusters_in_repair", "Clusters with an open incident of remediation.", lambda s: len(s.in_repair)),
    _counted(
        "alerts",
        ("rule", "severity", "state"),
        "Open alerts of the fleet, acknowledged ones included.",
        lambda scrape: ((alert.rule, alert.severity.value, alert.state.value) for alert in _active(scrape)),
    ),
    Metric(
        "mirrorplane_cluster_verdict",
        ("cluster", "verdict", "rule"),
        "Always 1: the verdict on a cluster and the rule it was reached by.",
        lambda scrape: [Sample((one.cluster, one.state.value, one.rule), 1.0) for one in scrape.reading.briefs],
    ),
    _each(
        "cluster_verdict_seconds",
        "How long the verdict on the cluster has stood.",
        lambda brief, scrape: _age_s(brief.since, scrape),
    ),
    _each(
        "cluster_exposed",
        "1 if the cluster serves without a synchronised peer.",
        lambda brief, _: None if brief.state is Health.UNKNOWN else brief.state is Health.EXPOSED,
    ),
    _each(
        "cluster_exposed_seconds",
        "How long the cluster has been exposed.",
        lambda brief, scrape: _age_s(brief.since, scrape) if brief.state is Health.EXPOSED else None,
    ),
    Metric(
        "mirrorplane_cluster_serving",
        ("cluster", "node"),
        "Always 1: the node that serves.",
        lambda scrape: [
            Sample((one.cluster, node), 1.0)
            for one in (brief.line() for brief in scrape.reading.briefs)
            for node in one.up or ((one.serving,) if one.serving else ())
        ],
    ),
    Metric(
        "mirrorplane_cluster_paused",
        ("cluster", "reason"),
        "Always 1: why nothing is repaired by itself now (operation, maintenance, stopped-by-operator…).",
        lambda scrape: [Sample((one.cluster, why), 1.0) for one in scrape.reading.briefs for why in one.paused_by],
    ),
    _each(
        "cluster_in_repair",
        "1 while remediation has an open incident of the cluster.",
        lambda brief, scrape: float(brief.cluster in scrape.in_repair),
    ),
    _counted(
        "cluster_alerts",
        ("cluster", "severity"),
        "Open alerts of a cluster, acknowledged ones included.",
        lambda scrape: ((alert.cluster, alert.severity.value) for alert in _active(scrape) if alert.cluster != FLEET),
    ),
)
assert len({metric.name for metric in METRICS}) == len(METRICS)
