"""The rotation of a cluster's certificate authority, as steps that never part the nodes. Pure.

Invariant, in every stage and after a crash between any two writes: each node's certificate is issued by an authority
that all nodes trust.
- `distribute`: the old one issues; the nodes are told to trust both. Left when every node reports that it does.
- `renew`: the new one issues, for nodes and for people; nodes renew their certificates. Left when all report it.
- `overlap`: certificates of people from the old one go on working until its end.
- `drop`: the nodes are told to trust the new one alone. Left when all report it, and the rotation is over.

A report counts if it arrived after the stage began: what a replaced or restored node said before proves nothing. A
node that is silent holds the rotation up for as long as it is silent; nothing is lost by waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import CertificateReport, NodeName, TrustOrder

from shared.model.authority import ClusterTrust, Rotation, RotationStage, TrustedAuthority
from shared.model.operation import OperationStatus, Step

DEFAULT_OVERLAP_S: Final = 30 * 86_400
MAX_OVERLAP_S: Final = 365 * 86_400


@dataclass(frozen=True)
class NodeReport:
    """The last thing a node said about its certificate; None from an agent that does not report it."""

    certificate: CertificateReport | None
    received_at: datetime


Reports = Mapping[NodeName, NodeReport | None]
"""Of every node of the cluster; None: it has not reported."""


def begun(
    old: TrustedAuthority,
    new: TrustedAuthority,
    *,
    operation_id: str,
    requested_by: str,
    reason: str,
    overlap_s: int,
    now: datetime,
) -> ClusterTrust:
    rotation = Rotation(
        operation_id=operation_id,
        requested_at=now,
        requested_by=requested_by,
        reason=reason,
        stage=RotationStage.DISTRIBUTE,
        stage_since=now,
        old=old.sha256,
        new=new.sha256,
        overlap_s=overlap_s,
    )
    return ClusterTrust(issuing=old.sha256, trusted=(old, new), changed_at=now, rotation=rotation)


def stepped(trust: ClusterTrust, reports: Reports, now: datetime) -> ClusterTrust:
    """The next stage if the present one is at its end, else `trust` itself."""
    rotation = trust.rotation
    if rotation is None or waiting_for(trust, reports, now):
        return trust
    match rotation.stage:
        case RotationStage.DISTRIBUTE:
            changed = _at(rotation, RotationStage.RENEW, now)
            more: dict[str, object] = {"issuing": rotation.new, "rotation": changed}
        case RotationStage.RENEW:
            until = now + timedelta(seconds=rotation.overlap_s)
            changed = _at(rotation, RotationStage.OVERLAP, now).model_copy(update={"overlap_until": until})
            more = {"rotation": changed}
        case RotationStage.OVERLAP:
            kept = tuple(authority for authority in trust.trusted if authority.sha256 == rotation.new)
            more = {"trusted": kept, "rotation": _at(rotation, RotationStage.DROP, now)}
        case RotationStage.DROP:
            more = {"rotation": None}
    return trust.model_copy(update={**more, "changed_at": now})


def waiting_for(trust: ClusterTrust, reports: Reports, now: datetime) -> tuple[str, ...]:
    """What the present stage waits for, a sentence each; empty when it may be left."""
    rotation = trust.rotation
    if rotation is None:
        return ()
    waits = [sentence for node in reports if (sentence := node_waits(trust, node, reports))]
    if rotation.stage is RotationStage.OVERLAP:
        if not rotation.told:
            waits.append("the operation is not ended yet")
        if rotation.overlap_until is not None and now < rotation.overlap_until:
            waits.append(f"certificates of people from the old authority work until {_text(rotation.overlap_until)}")
    return tuple(waits)


def node_waits(trust: ClusterTrust, node: NodeName, reports: Reports) -> str:
    """Why this node holds up the present stage, "" when it does not."""
    rotation, report = trust.rotation, reports.get(node)
    if rotation is None:
        return ""
    if report is None or report.received_at <= rotation.stage_since:
        return f"node {node} has not reported since {_text(rotation.stage_since)}"
    told = report.certificate
    if told is None:
        return f"node {node} does not report its certificate; its agent is too old for a rotation"
    problem = f" ({told.failure})" if told.failure else ""
    if not trust.fingerprints <= set(told.trusted_sha256):
        return f"node {node} does not trust the new authority yet{problem}"
    if rotation.stage is not RotationStage.DISTRIBUTE and told.issuer_sha256 != rotation.new:
        return f"node {node} has no certificate of the new authority yet{problem}"
    if rotation.stage is RotationStage.DROP and set(told.trusted_sha256) != trust.fingerprints:
        return f"node {node} still trusts the old authority{problem}"
    return ""


def order_for(trust: ClusterTrust | None, told: CertificateReport | None) -> TrustOrder | None:
    """What a node is to be told; None when it is as it should be, or does not understand such an order."""
    if trust is None or told is None:
        return None
    if told.issuer_sha256 == trust.issuing and set(told.trusted_sha256) == trust.fingerprints:
        return None
    return TrustOrder(ca_pem=trust.ca_pem, issuer_sha256=trust.issuing)


def steps_of(trust: ClusterTrust, rotation: Rotation, reports: Reports, now: datetime) -> tuple[Step, ...]:
    """The operation's progress: it ends when every node has a certificate of the new authority."""
    steps = [_step("new-authority", "make the new authority", OperationStatus.SUCCEEDED, "", now)]
    for stage, name, title in (
        (RotationStage.DISTRIBUTE, "trust", "trust both authorities on node"),
        (RotationStage.RENEW, "renew", "renew the certificate of node"),
    ):
        for node in reports:
            status, message = _progress(trust, rotation, stage, node, reports)
            steps.append(_step(f"{name}-{node}", f"{title} {node}", status, message, now))
    return tuple(steps)


def _progress(
    trust: ClusterTrust, rotation: Rotation, stage: RotationStage, node: NodeName, reports: Reports
) -> tuple[OperationStatus, str]:
    order = list(RotationStage)
    if order.index(rotation.stage) > order.index(stage):
        return OperationStatus.SUCCEEDED, ""
    if rotation.stage is not stage:
        return OperationStatus.NOT_STARTED, ""
    waits = node_waits(trust, node, reports)
    return (OperationStatus.RUNNING, waits) if waits else (OperationStatus.SUCCEEDED, "")


def _step(name: str, title: str, status: OperationStatus, message: str, now: datetime) -> Step:
    return Step(name=name, title=title, status=status, message=message, updated_at=now)


def _at(rotation: Rotation, stage: RotationStage, now: datetime) -> Rotation:
    return rotation.model_copy(update={"stage": stage, "stage_since": now})


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
