"""The audit: own probes, named verdicts; correct if skipped, doubled or killed. And retention."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from mirror_agent.contract import ApplicationState, Heartbeat

from shared.api.probe import Probed
from shared.api.retention import KEPT_DAYS, remove_expired
from shared.audit.pipeline import audit_fleet
from shared.health.glimpse import NodeFacts, glimpse, silent_after_s
from shared.model.audit import NodeHealth
from shared.model.node_state import ProbeOutcome
from shared.store.ports import Unavailable
from tests.control_plane_app import App
from tests.control_plane_samples import heartbeat, node_state

BEAT = heartbeat()
FAILED = heartbeat(application=ApplicationState.FAILED, sentence="start_prim ended with 1")
RULES: list[tuple[Heartbeat | None, float | None, ProbeOutcome | None, float | None, NodeHealth, str]] = [
    (None, None, ProbeOutcome.REFUSED, 30, NodeHealth.UNKNOWN, "never-seen"),
    (BEAT, 0, ProbeOutcome.SERVING, 30, NodeHealth.HEALTHY, "fresh-heartbeat"),
    (BEAT, 15, ProbeOutcome.REFUSED, 30, NodeHealth.HEALTHY, "fresh-heartbeat"),
    (BEAT, 15.1, ProbeOutcome.REFUSED, 30, NodeHealth.UNHEALTHY, "silent"),
    (BEAT, 15.1, ProbeOutcome.IMPOSSIBLE, 30, NodeHealth.UNHEALTHY, "silent"),
    (BEAT, 15.1, None, 30, NodeHealth.UNHEALTHY, "silent"),
    (BEAT, 15.1, ProbeOutcome.SERVING, 30, NodeHealth.UNHEALTHY, "silent-but-answering"),
    (BEAT, 15.1, ProbeOutcome.STANDBY, 30, NodeHealth.UNHEALTHY, "silent-but-answering"),
    (BEAT, 3600, ProbeOutcome.REFUSED, None, NodeHealth.UNKNOWN, "observer-just-started"),
    (BEAT, 3600, ProbeOutcome.REFUSED, 91, NodeHealth.UNKNOWN, "observer-just-started"),
    (FAILED, 0, ProbeOutcome.SERVING, 30, NodeHealth.UNHEALTHY, "application-failed"),
    (FAILED, 0, ProbeOutcome.SERVING, None, NodeHealth.UNHEALTHY, "application-failed"),
]


@pytest.mark.parametrize(("beat", "age_s", "probe", "gap_s", "health", "rule"), RULES)
def test_rules(
    beat: Heartbeat | None,
    age_s: float | None,
    probe: ProbeOutcome | None,
    gap_s: float | None,
    health: NodeHealth,
    rule: str,
) -> None:
    found = glimpse(NodeFacts(beat, age_s, 5.0, probe, gap_s))
    assert (found.health, found.rule) == (health, rule)
    assert found.sentence


def test_silence_is_three_heartbeats_and_at_least_fifteen_seconds() -> None:
    assert [silent_after_s(interval) for interval in (0.5, 5, 10)] == [15, 15, 30]


async def test_an_audit_records_probes_and_verdicts(app: App) -> None:
    record = await app.provisioned()
    await app.plane.store.node_states.put(node_state(record.id), None)
    app.prober.answers["198.51.100.4"] = Probed(ProbeOutcome.SERVING, 200, 1.5, "OK")
    await app.fire("health_audit", None)
    probes = (await app.send("GET", "clusters/pay/probes?node=a")).body["value"]
    assert [(probe["outcome"], probe["statusCode"], probe["latencyMs"]) for probe in probes] == [("serving", 200, 1.5)]
    [other] = (await app.send("GET", "clusters/pay/probes?node=b")).body["value"]
    assert (other["outcome"], "refused" in other["reason"]) == ("refused", True)
    audit = await app.plane.store.audits.get(record.id)
    assert audit is not None
    assert {node: verdict.rule for node, verdict in audit.value.nodes.items()} == {
        "a": "two-sources-agree",
        "b": "never-seen",
    }
    fleet = await app.plane.store.audits.fleet()
    assert fleet is not None
    assert (fleet.value.ended_at, fleet.value.held_until) == (app.clock(), None)


async def test_a_silent_node_is_marked_by_the_second_audit_and_since_when(app: App) -> None:
    record = await app.provisioned()
    await app.plane.store.node_states.put(node_state(record.id), None)
    app.clock.advance(1)  # three heartbeats are missing at the first look
    seen: list[tuple[str, int]] = []
    for _ in range(5):
        app.clock.advance(30)
        await app.fire("health_audit", None)
        audit = await app.plane.store.audits.get(record.id)
        assert audit is not None
        verdict = audit.value.nodes["a"]
        seen.append((verdict.rule, int((app.clock() - verdict.since).total_seconds())))
    assert seen == [
        ("observer-just-started", 0),
        ("observer-just-started", 30),
        ("confirming", 60),
        ("silent-and-unreachable", 0),
        ("silent-and-unreachable", 30),
    ]


async def test_nobody_is_accused_by_an_audit_that_was_away_itself(app: App) -> None:
    record = await app.provisioned()
    await app.plane.store.node_states.put(node_state(record.id), None)
    await app.fire("health_audit", None)
    app.clock.advance(3600)
    await app.fire("health_audit", None)
    audit = await app.plane.store.audits.get(record.id)
    assert audit is not None
    assert audit.value.nodes["a"].rule == "observer-just-started"


async def test_two_audits_at_once_leave_one_verdict(app: App) -> None:
    record = await app.provisioned()
    assert sorted(await asyncio.gather(audit_fleet(app.plane), audit_fleet(app.plane))) == [0, 1]
    audit = await app.plane.store.audits.get(record.id)
    assert audit is not None
    assert await audit_fleet(app.plane) == 0, "a run at the same moment as one that ended is a doubled tick"
    again = await app.plane.store.audits.get(record.id)
    assert again is not None
    assert again.etag == audit.etag


async def test_an_audit_that_was_killed_is_no_audit(app: App) -> None:
    await app.provisioned()
    app.rows.fail("scan", "clusters", Unavailable("killed"))
    with pytest.raises(Unavailable):
        await audit_fleet(app.plane)
    fleet = await app.plane.store.audits.fleet()
    assert fleet is not None
    assert fleet.value.ended_at is None
    app.clock.advance(30)
    assert await audit_fleet(app.plane) == 0, "the killed run's hold has not passed"
    app.clock.advance(30)
    assert await audit_fleet(app.plane) == 1


async def test_one_damaged_cluster_does_not_hide_the_others(app: App) -> None:
    await app.provisioned("aa")
    bb = await app.provisioned("bb")
    app.rows.fail("upsert", "probes", Unavailable("once"))
    assert await audit_fleet(app.plane) == 2
    assert await app.plane.store.audits.get(bb.id) is not None


async def test_a_cluster_behind_a_private_frontend_is_not_probed_and_says_why(app: App) -> None:
    await app.provisioned(network__frontend="private")
    await app.fire("health_audit", None)
    assert app.prober.asked == []
    [probe] = (await app.send("GET", "clusters/pay/probes?node=a")).body["value"]
    assert probe["outcome"] == "impossible"
    assert "private frontend" in probe["reason"]


async def test_retention_removes_old_days_operations_and_remains(app: App) -> None:
    record = await app.provisioned()
    credential = await app.enrolled()
    await app.beat(credential)
    await app.fire("health_audit", None)
    app.clock.advance((KEPT_DAYS + 1) * 86400)
    await app.beat(credential, heartbeat(sequence=2))
    await app.fire("retention", None)
    listed = (await app.send("GET", "clusters/pay/heartbeats?node=a")).body["value"]
    assert [entry["sequence"] for entry in listed] == [2]
    assert (await app.send("GET", f"operations/{record.operation.id}")).status == 200

    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    app.clock.advance(timedelta(days=31).total_seconds())
    for _ in range(2):
        removed = await remove_expired(app.plane)
    assert removed["deletedClusters"] == 0
    assert await app.plane.store.clusters.deleted() == []
    assert record.id not in app.rows.everything()
    assert await app.plane.store.credentials.credential(record.id, "a") is None
    assert await app.plane.store.operations.get(record.operation.id) is None
