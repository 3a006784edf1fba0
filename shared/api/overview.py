"""What the page of one cluster shows, in one answer: the nodes' own words, the verdict, the safety of the data.

Everything in it can be had elsewhere in the API; here it is read together, so that a page that asks every two seconds
costs a handful of point reads, and 304 when nothing changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field

from shared.api.alert_views import AlertView, alert_view
from shared.api.call import Answer, Call, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.api.views import ClusterView, HeartbeatView, Links, OperationView, cluster_view, operation_view
from shared.console.safety import SafetyView, farm_safety, safety
from shared.health.limits import silent_after_s
from shared.model.audit import TrackRecord
from shared.model.cluster import ClusterRecord
from shared.model.document import ApiModel
from shared.model.operation import Operation
from shared.model.principal import Principal


class NodeReport(ApiModel):
    """`heartbeat` is the last one; `fresh`: it is young enough to say something about now."""

    agent_version: str
    heartbeat: HeartbeatView
    fresh: bool


class WitnessView(ApiModel):
    """The safety record: who may serve, and which nodes hold every acknowledged write."""

    epoch: int
    primary: str
    in_sync: str
    rule: str


class Overview(ApiModel):
    """`operation`: the one at work, or the last one that failed. `clock`: ours, at the answer."""

    cluster: ClusterView
    safety: SafetyView
    verdict: TrackRecord | None = None
    node_verdicts: dict[NodeName, TrackRecord] = Field(default_factory=dict)
    paused_by: tuple[str, ...] = ()
    reports: dict[NodeName, NodeReport] = Field(default_factory=dict)
    witness: WitnessView | None = None
    operation: OperationView | None = None
    alerts: tuple[AlertView, ...] = ()
    remediation: str = ""
    clock: AwareDatetime


async def get_overview(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    now = plane.clock()
    store = plane.store
    states, audit, witness, alerts, remediation, operation = await asyncio.gather(
        store.node_states.of_cluster(record.id),
        store.audits.get(record.id),
        store.witness.read(record.id),
        store.alerting.alerts.open_of(record.name),
        store.remediations.get(record.id),
        _operation(plane, record),
    )
    silent_s = silent_after_s(record.spec.timing.control_plane_heartbeat_s)
    view = Overview(
        cluster=cluster_view(record, states, Links(plane.settings.public_url), now),
        safety=farm_safety(record.nodes, states, now, silent_s) if record.is_farm else safety(states, now, silent_s),
        verdict=None if audit is None else audit.value.verdict,
        node_verdicts={} if audit is None else audit.value.nodes,
        paused_by=() if audit is None else audit.value.paused_by,
        reports={
            node: NodeReport(
                agent_version=state.agent_version,
                heartbeat=HeartbeatView(
                    **{name: getattr(state.heartbeat, name) for name in type(state.heartbeat).model_fields},
                    received_at=state.received_at,
                ),
                fresh=(now - state.received_at).total_seconds() <= silent_s,
            )
            for node, state in states.items()
        },
        witness=None
        if witness is None
        else WitnessView(epoch=witness.epoch, primary=witness.primary, in_sync=witness.in_sync, rule=witness.rule),
        operation=None if operation is None else operation_view(operation),
        alerts=tuple(alert_view(entry.value, None) for entry in alerts),
        remediation="" if remediation is None else remediation.value.sentence,
        clock=now,
    )
    body = model_json(view)
    etag = _etag(body)
    if call.headers.get("if-none-match") == etag:
        return Answer(304, None, {"ETag": etag})
    return Answer(200, body, {"ETag": etag})


async def _operation(plane: ControlPlane, record: ClusterRecord) -> Operation | None:
    """The younger of the record's operation and its action, unless it succeeded."""
    refs = [record.operation] if record.action is None else [record.operation, record.action]
    youngest = max(refs, key=lambda ref: ref.requested_at)
    found = await plane.store.operations.get(youngest.id)
    if found is None or found.value.percent_complete == 100:
        return None
    return found.value


def _etag(body: dict[str, object]) -> str:
    """Of everything but the time of the answer."""
    essence = {name: value for name, value in body.items() if name != "clock"}
    return f'"{hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()[:32]}"'
