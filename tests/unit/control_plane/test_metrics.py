"""`GET /metrics` of the control plane: who may read it, what it says, what it costs; and its document."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import azure.functions as func
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.alerts.conditions import condition
from shared.alerts.lifecycle import opened
from shared.console.board import Reading
from shared.console.lines import Line
from shared.health.verdict import Health
from shared.metrics.families import METRICS, Scrape
from shared.metrics.text import written
from shared.model.principal import AccessRole
from shared.model.remediation import Tracked
from tests.control_plane_app import App, functions
from tests.control_plane_samples import NOW
from tests.unit.control_plane.test_console_reads import audited

ROOT = Path(__file__).parents[3]
Samples = dict[tuple[str, tuple[str, ...]], float]


async def scrape(app: App, token: str | None) -> func.HttpResponse:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    request = func.HttpRequest("GET", "https://control.example.org/metrics", headers=headers, params={}, body=b"")
    answer: func.HttpResponse = await functions()["metrics"].get_user_function()(request)
    return answer


def parsed(text: str) -> Samples:
    """By name and the labels' values in the order of the labels' names, as they are written."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_never_for_anybody_without_a_token_and_for_every_role_with_one(app: App) -> None:
    for token in (None, "mp_wrong"):
        answer = await scrape(app, token)
        assert answer.status_code == 401
        assert b"mirrorplane_" not in answer.get_body()
    for role in AccessRole:
        answer = await scrape(app, await app.token(role))
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.mimetype.startswith("text/plain")


async def test_what_it_says(app: App) -> None:
    for name, state in (("calm", "healthy"), ("lone", "exposed"), ("gone", "down")):
        await audited(app, name, state)
    record = await app.record("gone")
    await app.plane.store.alerting.alerts.create(opened(condition("gone", "cluster-down", "cluster"), NOW))
    await app.plane.store.remediations.track(Tracked(cluster_id=record.id, cluster="gone"))
    app.clock.advance(100)
    found = parsed((await scrape(app, await app.token(AccessRole.MONITOR))).get_body().decode())
    assert found["mirrorplane_clusters", ("healthy",)] == 1
    assert found["mirrorplane_clusters", ("degraded",)] == 0
    assert found["mirrorplane_cluster_verdict", ("lone", "some-rule", "exposed")] == 1
    assert found["mirrorplane_cluster_exposed", ("lone",)] == 1
    assert found["mirrorplane_cluster_exposed", ("calm",)] == 0
    assert found["mirrorplane_cluster_exposed_seconds", ("lone",)] >= 100
    assert ("mirrorplane_cluster_exposed_seconds", ("calm",)) not in found
    assert found["mirrorplane_cluster_serving", ("calm", "a")] == 1
    assert found["mirrorplane_cluster_in_repair", ("gone",)] == found["mirrorplane_clusters_in_repair", ()] == 1
    assert found["mirrorplane_cluster_alerts", ("gone", "critical")] == 1
    assert found["mirrorplane_alerts", ("cluster-down", "critical", "firing")] == 1
    assert found["mirrorplane_storm", ()] == 0
    assert ("mirrorplane_audit_age_seconds", ()) not in found, "no audit went through yet"


async def test_the_fleet_is_read_from_the_board_not_at_every_scrape(app: App) -> None:
    await audited(app, "calm", "healthy")
    token = await app.token(AccessRole.MONITOR)
    await scrape(app, token)
    await audited(app, "more", "healthy")
    found = parsed((await scrape(app, token)).get_body().decode())
    assert found["mirrorplane_clusters", ("healthy",)] == 1, "the same reading"


def test_ten_thousand_clusters_are_one_text() -> None:
    briefs = tuple(
        Line(f"c-{number}", Health.HEALTHY, "r", "s", since=NOW, nodes={}, serving="a") for number in range(10_000)
    )
    reading = Reading(briefs, {Health.HEALTHY: 10_000}, NOW, NOW, storm=False, storm_sentence="")
    content, kind = written(Scrape(reading, (), frozenset(), NOW + timedelta(seconds=5)))
    assert content.count(b"mirrorplane_cluster_verdict{") == 10_000
    assert len(content) < 8_000_000
    assert kind.startswith("text/plain")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: object) -> None:
    name, labels = metric.name, metric.labels  # type: ignore[attr-defined]
    assert re.fullmatch(r"mirrorplane_[a-z][a-z0-9_]*", name)
    assert not name.endswith(("_total", "_count", "_sum", "_bucket")), "gauges only"
    assert all(re.fullmatch(r"[a-z]+", label) for label in labels)


def test_the_document_is_in_step() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "metrics_doc.py"), "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
