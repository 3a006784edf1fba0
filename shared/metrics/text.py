"""`GET /metrics`: the table of metrics as Prometheus reads it, for a bearer with the role Monitor and for nobody else.

Cost: the board's reading, kept in the process for seconds, and two queries whose size is that of the trouble there is
(open alerts, open incidents), not of the fleet. The writer is prometheus-client's, imported at the first scrape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from shared.api.call import Answer, Call
from shared.api.endpoint import Endpoint, Guard
from shared.api.fleet import read_fleet
from shared.api.plane import ControlPlane
from shared.metrics.families import METRICS, Scrape
from shared.model.principal import Principal


async def get_metrics(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    reading, alerts, tracked = await asyncio.gather(
        plane.board.look(lambda: read_fleet(plane)),
        plane.store.alerting.alerts.open(),
        plane.store.remediations.tracked(),
    )
    scrape = Scrape(
        reading=reading,
        alerts=tuple(entry.value for entry in alerts),
        in_repair=frozenset(entry.cluster for entry in tracked),
        now=plane.clock(),
    )
    content, content_type = written(scrape)
    return Answer(200, content, {"Cache-Control": "no-store"}, content_type=content_type)


def written(scrape: Scrape) -> tuple[bytes, str]:
    """The text and its content type."""
    # 0.1 s of a cold start that most instances never need.
    from prometheus_client import CollectorRegistry, Metric, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.registry import Collector

    class OneScrape(Collector):
        def collect(self) -> Iterator[Metric]:
            for metric in METRICS:
                family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                for sample in metric.samples(scrape):
                    family.add_metric(sample.labels, sample.value)
                if family.samples:
                    yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(OneScrape())
    return generate_latest(registry), CONTENT_TYPE_LATEST


METRICS_ENDPOINT = Endpoint(
    "metrics",
    "GET",
    "metrics",
    Guard.SCRAPER,
    get_metrics,
    "The fleet's figures for Prometheus (at /metrics, not below /api; no api-version).",
    {200: None},
)
