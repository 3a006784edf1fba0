"""Remediation over HTTP: what is known, was decided and was done for one cluster. It is changed through the spec."""

from __future__ import annotations

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime, Field

from shared.api.call import Answer, Call, model_json
from shared.api.clusters import named_cluster
from shared.api.plane import ControlPlane
from shared.model.document import ApiModel
from shared.model.principal import Principal
from shared.model.remediation import ActionRecord, Deviation, NodeLadder
from shared.model.remediation_policy import ManagementPolicy, RemediationPolicy


class RemediationView(ApiModel):
    """`rule` and `sentence` are the last decision; `actions` oldest first; `drift` as found at `driftCheckedAt`."""

    policy: RemediationPolicy
    management_policy: ManagementPolicy
    rule: str = ""
    sentence: str = ""
    decided_at: AwareDatetime | None = None
    nodes: dict[NodeName, NodeLadder] = Field(default_factory=dict)
    actions: tuple[ActionRecord, ...] = ()
    drift: tuple[Deviation, ...] = ()
    drift_checked_at: AwareDatetime | None = None


async def get_remediation(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    cluster = await named_cluster(plane, call.route["name"])
    view = RemediationView(policy=cluster.spec.remediation, management_policy=cluster.spec.management_policy)
    stored = await plane.store.remediations.get(cluster.id)
    if stored is not None:
        record = stored.value
        known = {name: getattr(record, name) for name in RemediationView.model_fields if hasattr(record, name)}
        view = view.model_copy(update=known)
    return Answer(200, model_json(view))
