"""Rotating the authority of a cluster: the request, what moves a rotation on, and what people may see of it.

The cluster's record is the truth (`ClusterRecord.trust`), and every step is one conditional write of it, so a crash
between any two writes leaves a stage to go on from: heartbeats of the cluster move it on at once, `operation_repair`
every 15 s. Asking again while one is under way changes nothing but the end of its overlap.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

from cryptography import x509
from pydantic import AwareDatetime, Field

from shared.api.call import Answer, Call, body_of, model_json
from shared.api.clusters import act_on_cluster, named_cluster, operation_answer, wish_of
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.wishes import Wish
from shared.model.authority import ROTATE, ClusterTrust, Rotation, RotationStage, TrustedAuthority
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.model.document import ApiModel
from shared.model.operation import Operation, OperationKind, OperationStatus, Step, finished
from shared.model.principal import AccessRole, ClusterAuthority, Principal
from shared.security.authority import Authority, certificate_sha256, new_authority
from shared.security.enrolment import ensure_authority
from shared.security.rotation import (
    DEFAULT_OVERLAP_S,
    MAX_OVERLAP_S,
    NodeReport,
    Reports,
    begun,
    stepped,
    steps_of,
    waiting_for,
)
from shared.security.wrapping import wrap
from shared.store.ports import Changed, Exists, Store, Versioned
from shared.structured_log import Log

MAX_ATTEMPTS: Final = 5
MAX_STAGES_AT_ONCE: Final = len(RotationStage) + 1
_HOUR_S: Final = 3600
log = Log("mirrorplane.rotation")


class RotateRequest(ApiModel):
    """Optional body. `overlapHours`: how long certificates of people from the old authority go on working after the
    nodes have theirs from the new one; 0 ends them at once."""

    reason: str = Field(default="", max_length=500)
    overlap_hours: Annotated[int, Field(ge=0, le=MAX_OVERLAP_S // _HOUR_S)] | None = None


class AuthorityView(ApiModel):
    sha256: str
    not_after: AwareDatetime
    issues: bool
    pem: str


class RotationView(ApiModel):
    """`waitingFor`: why the present stage is not left, a sentence each."""

    stage: RotationStage
    since: AwareDatetime
    requested_at: AwareDatetime
    requested_by: str
    reason: str
    operation_id: str
    overlap_until: AwareDatetime | None = None
    waiting_for: tuple[str, ...]


class ClusterAuthorityView(ApiModel):
    """The authorities the nodes of a cluster are told to trust, and the rotation under way."""

    authorities: tuple[AuthorityView, ...]
    rotation: RotationView | None = None


async def act(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """`POST clusters/{name}:{action}`: a rotation here, everything else by commands to the nodes. Raises Problem."""
    name, _, word = call.route["nameAndAction"].partition(":")
    if word != ROTATE:
        return await act_on_cluster(plane, caller, call)
    if not caller.may(AccessRole.ADMIN):
        raise Problem("Forbidden", f"{ROTATE} needs the role {AccessRole.ADMIN.value}")
    request = body_of(call, RotateRequest) if call.body else RotateRequest()
    wish = wish_of(plane, caller, call)
    for _ in range(MAX_ATTEMPTS):
        found = await _stored(plane, name)
        trust = found.value.trust
        if trust is None or trust.rotation is None:
            ended = await plane.store.operations.get(wish.operation_id)
            if ended is not None and ended.value.action == ROTATE and ended.value.cluster_id == found.value.id:
                return operation_answer(plane, ended.value)  # the same request again, after its rotation was over
            wanted = await _new_rotation(plane, found.value, request, wish)
        else:
            wanted = _with_overlap(trust, trust.rotation, request)
        try:
            record = await _written(plane.store, found, wanted)
        except Changed:
            continue
        await advance_rotation(plane, record)
        return operation_answer(plane, await _operation(plane.store, record))
    raise Problem("OperationInProgress", f"cluster {name!r} is being changed by others; try again")


async def get_authority(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    record = await named_cluster(plane, call.route["name"])
    trust = record.trust
    if trust is None:
        first = await plane.store.credentials.authority(record.id)
        trusted = () if first is None else (_trusted("", first.certificate_pem),)
        issuing = trusted[0].sha256 if trusted else ""
        body = ClusterAuthorityView(authorities=tuple(_authority_view(one, issuing) for one in trusted))
        return Answer(200, model_json(body, without_none=True))
    rotation = None
    if trust.rotation is not None:
        told = trust.rotation
        rotation = RotationView(
            stage=told.stage,
            since=told.stage_since,
            requested_at=told.requested_at,
            requested_by=told.requested_by,
            reason=told.reason,
            operation_id=told.operation_id,
            overlap_until=told.overlap_until,
            waiting_for=waiting_for(trust, await _reports(plane.store, record), plane.clock()),
        )
    views = tuple(_authority_view(one, trust.issuing) for one in trust.trusted)
    return Answer(200, model_json(ClusterAuthorityView(authorities=views, rotation=rotation), without_none=True))


async def advance_rotation(plane: ControlPlane, record: ClusterRecord) -> ClusterRecord:
    """As many stages as the nodes' reports allow; returns the record as it is then. A lost race is left to the
    winner."""
    for _ in range(MAX_STAGES_AT_ONCE):
        trust = record.trust
        if trust is None or trust.rotation is None or _rests(trust.rotation, plane.clock()):
            break
        reports, now = await _reports(plane.store, record), plane.clock()
        operation = None
        if not trust.rotation.told:
            operation = await _tell(plane, record, trust, trust.rotation, reports)
        changed = stepped(_with_told(trust, operation), reports, now)
        if changed == trust:
            break
        found = await plane.store.clusters.get(record.name)
        if found is None or found.value.id != record.id or found.value.trust != trust:
            break
        try:
            record = await _written(plane.store, found, changed)
        except Changed:
            break
        stage = "over" if changed.rotation is None else changed.rotation.stage.value
        log.info("rotation", cluster=record.name, stage=stage, operation=trust.rotation.operation_id)
        if changed.rotation is None:
            await forget_unused(plane, record)
    return record


async def forget_unused(plane: ControlPlane, record: ClusterRecord) -> int:
    """Removes the keys of authorities that the record no longer names; returns how many. Not one that was made since
    the record was written: a rotation may be about to name it."""
    if record.trust is None:
        return 0
    named = {authority.id for authority in record.trust.trusted}
    unused = [
        entry.value.id
        for entry in await plane.store.credentials.authorities(record.id)
        if entry.value.id not in named and entry.value.created_at < record.trust.changed_at
    ]
    for authority_id in unused:
        await plane.store.credentials.delete_authority(record.id, authority_id)
        log.info("authority_removed", cluster=record.name, authority=authority_id or "first")
    return len(unused)


async def _new_rotation(plane: ControlPlane, record: ClusterRecord, request: RotateRequest, wish: Wish) -> ClusterTrust:
    if record.state is ProvisioningState.DELETING:
        raise Problem("ClusterBeingDeleted", f"cluster {record.name!r} is being deleted")
    if not record.ever_succeeded:
        raise Problem("ClusterNotReady", f"cluster {record.name!r} is {record.state.value}; wait until it Succeeded")
    if await plane.store.operations.get(wish.operation_id) is not None:
        raise Problem(
            "OperationIdReused", f"Operation-Id {wish.operation_id!r} was used for another request", "Operation-Id"
        )
    reports = await _reports(plane.store, record)
    for node, report in reports.items():
        if report is None or report.certificate is None:
            why = "has not reported" if report is None else "runs an agent that does not report its certificate"
            raise Problem("NodeCannotRotate", f"node {node!r} {why}; a rotation would wait for it for ever", "nodes")
    now = plane.clock()
    old = await ensure_authority(
        plane.store.credentials,
        plane.settings.wrapping_keys,
        cluster=record.name,
        cluster_id=record.id,
        now=now,
        trust=record.trust,
    )
    return begun(
        _trusted("" if record.trust is None else record.trust.issuer.id, old.certificate_pem),
        await _made(plane, record, new_authority(record.name, record.id, now)),
        operation_id=wish.operation_id,
        requested_by=wish.principal,
        reason=request.reason,
        overlap_s=DEFAULT_OVERLAP_S if request.overlap_hours is None else request.overlap_hours * _HOUR_S,
        now=now,
    )


async def _made(plane: ControlPlane, record: ClusterRecord, authority: Authority) -> TrustedAuthority:
    """The key's row, before anything names it."""
    sha256 = certificate_sha256(authority.certificate)
    await plane.store.credentials.create_authority(
        ClusterAuthority(
            cluster_id=record.id,
            id=sha256,
            certificate_pem=authority.certificate_pem,
            wrapped_key=wrap(plane.settings.wrapping_key, authority.key_bytes, record.id),
            created_at=plane.clock(),
        )
    )
    return _trusted(sha256, authority.certificate_pem)


def _with_overlap(trust: ClusterTrust, rotation: Rotation, request: RotateRequest) -> ClusterTrust:
    """A rotation is under way: only the end of its overlap can be changed."""
    if request.overlap_hours is None:
        return trust
    overlap_s = request.overlap_hours * _HOUR_S
    until = rotation.overlap_until
    if rotation.stage is RotationStage.OVERLAP:
        until = rotation.stage_since + timedelta(seconds=overlap_s)
    changed = rotation.model_copy(update={"overlap_s": overlap_s, "overlap_until": until})
    return trust.model_copy(update={"rotation": changed})


def _rests(rotation: Rotation, now: datetime) -> bool:
    """Weeks of overlap in which there is nothing to look at."""
    return rotation.told and rotation.overlap_until is not None and now < rotation.overlap_until


async def _tell(
    plane: ControlPlane, record: ClusterRecord, trust: ClusterTrust, rotation: Rotation, reports: Reports
) -> Operation | None:
    """The operation row as the stage says: it ends when both nodes have certificates of the new authority."""
    now = plane.clock()
    await _operation(plane.store, record)
    for _ in range(MAX_ATTEMPTS):
        current = await plane.store.operations.get(rotation.operation_id)
        if current is None or current.value.is_final:
            return None if current is None else current.value
        steps = steps_of(trust, rotation, reports, now)
        ended = rotation.stage in (RotationStage.OVERLAP, RotationStage.DROP)
        if not ended and _same(current.value.steps, steps):
            return current.value
        moved = current.value.model_copy(
            update={
                "steps": _kept_times(current.value.steps, steps),
                "status": OperationStatus.RUNNING,
                "updated_at": now,
            }
        )
        if ended:
            moved = finished(moved, OperationStatus.SUCCEEDED, now)
        try:
            return (await plane.store.operations.replace(moved, current.etag)).value
        except Changed:
            continue
    return None


def _with_told(trust: ClusterTrust, operation: Operation | None) -> ClusterTrust:
    rotation = trust.rotation
    if rotation is None or rotation.told or operation is None or not operation.is_final:
        return trust
    return trust.model_copy(update={"rotation": rotation.model_copy(update={"told": True})})


def _same(before: tuple[Step, ...], after: tuple[Step, ...]) -> bool:
    return [(step.name, step.status, step.message) for step in before] == [
        (step.name, step.status, step.message) for step in after
    ]


def _kept_times(before: tuple[Step, ...], after: tuple[Step, ...]) -> tuple[Step, ...]:
    """Unchanged steps keep their time."""
    known = {(step.name, step.status, step.message): step for step in before}
    return tuple(known.get((step.name, step.status, step.message), step) for step in after)


async def _operation(store: Store, record: ClusterRecord) -> Operation:
    """The row of the rotation's operation, made again if a crash prevented it."""
    rotation = record.trust.rotation if record.trust is not None else None
    assert rotation is not None, "asked for during a rotation only"
    operation = Operation(
        id=rotation.operation_id,
        kind=OperationKind.ACTION,
        cluster=record.name,
        cluster_id=record.id,
        generation=record.generation,
        action=ROTATE,
        requested_by=rotation.requested_by,
        reason=rotation.reason,
        created_at=rotation.requested_at,
        updated_at=rotation.requested_at,
    )
    try:
        return (await store.operations.create(operation)).value
    except Exists:
        current = await store.operations.get(rotation.operation_id)
        return operation if current is None else current.value


async def _reports(store: Store, record: ClusterRecord) -> Reports:
    states = await store.node_states.of_cluster(record.id)
    return {
        node: NodeReport(state.heartbeat.certificate, state.received_at) if (state := states.get(node)) else None
        for node in record.nodes
    }


async def _stored(plane: ControlPlane, name: str) -> Versioned[ClusterRecord]:
    await named_cluster(plane, name)
    found = await plane.store.clusters.get(name)
    if found is None:
        raise Problem("ClusterNotFound", f"there is no cluster {name!r}")
    return found


async def _written(store: Store, found: Versioned[ClusterRecord], trust: ClusterTrust) -> ClusterRecord:
    """Raises Changed."""
    if found.value.trust == trust:
        return found.value
    return (await store.clusters.replace(found.value.model_copy(update={"trust": trust}), found.etag)).value


def _trusted(authority_id: str, certificate_pem: str) -> TrustedAuthority:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return TrustedAuthority(id=authority_id, sha256=certificate_sha256(certificate), certificate_pem=certificate_pem)


def _authority_view(authority: TrustedAuthority, issuing: str) -> AuthorityView:
    certificate = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    return AuthorityView(
        sha256=authority.sha256,
        not_after=certificate.not_valid_after_utc,
        issues=authority.sha256 == issuing,
        pem=authority.certificate_pem,
    )
