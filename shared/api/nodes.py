"""What nodes send: enrolment, heartbeats, and the fetch of their own software.

A heartbeat is judged fresh by its arrival here. A post may come twice (its answer was lost) or late (an older post
overtaken by a newer one): the current state only moves forward within one agent start, and the history keeps one row
per heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from mirror_agent.contract import (
    Command,
    CommandResult,
    Configuration,
    EnrolRequest,
    EnrolResponse,
    Heartbeat,
    HeartbeatPost,
    HeartbeatResponse,
    NodeName,
    RenewRequest,
    RenewResponse,
)

from shared.api.call import Answer, Call, body_of, model_json
from shared.api.commands import deliverable
from shared.api.dispatch import advance_action
from shared.api.node_orders import record_orders
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.rotation import advance_rotation
from shared.api.versions import check_agent, heartbeat_post
from shared.model.audit import TurnKind, VerdictTurn
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.model.cluster_spec import node_private_address
from shared.model.node_state import CommandStatus, HistoryEntry, NodeCommand, NodeState
from shared.model.principal import Enrolment, NodePrincipal
from shared.provisioning.configuration import configuration_version, farm_configuration, node_configuration
from shared.remediation.commands import withheld
from shared.rollout.advance import order_for as turn_of
from shared.rollout.advance import outdated
from shared.rollout.releases import offered
from shared.security.authority import RequestRefused, issue_node_certificate, verified_public_key
from shared.security.enrolment import EnrolmentRefused, enrol, ensure_authority
from shared.security.rotation import order_for
from shared.store.ports import Changed, Exists, Versioned
from shared.structured_log import Log

MAX_ATTEMPTS: Final = 5
MAX_WHEEL_BYTES: Final = 64 * 1024 * 1024
_STATUS: Final = {
    "accepted": CommandStatus.ACCEPTED,
    "succeeded": CommandStatus.SUCCEEDED,
    "failed": CommandStatus.FAILED,
}
log = Log("mirrorplane.nodes")


async def enrol_node(plane: ControlPlane, caller: Versioned[Enrolment], call: Call) -> Answer:
    request = body_of(call, EnrolRequest, strict=False)
    check_agent(request.agent_version)
    token, now = caller.value, plane.clock()
    record = await _record(plane, token.cluster, token.cluster_id)
    try:
        identity = await enrol(
            plane.store.credentials,
            plane.settings.wrapping_keys,
            enrolment=caller,
            csr_pem=request.csr_pem,
            addresses=_addresses(record, token.node),
            now=now,
            trust=record.trust,
        )
    except RequestRefused as error:
        raise Problem("CertificateRequestRefused", str(error), "csrPem") from None
    except EnrolmentRefused as error:
        log.warning("enrolment_refused", cluster=token.cluster, node=token.node, rule=error.code)
        raise Problem(error.code, str(error)) from None
    log.info("node_enrolled", cluster=token.cluster, node=token.node, enrolment=token.id, boot=request.boot_id)
    answer = EnrolResponse(
        certificate_pem=identity.certificate_pem,
        ca_pem=identity.ca_pem,
        node_credential=identity.node_credential,
        configuration=_configuration(plane, record, token.node, now),
    )
    return Answer(200, model_json(answer))


async def renew_certificate(plane: ControlPlane, caller: NodePrincipal, call: Call) -> Answer:
    """Asking again gives another certificate: nothing is stored, the node keeps what it takes."""
    request = body_of(call, RenewRequest, strict=False)
    now = plane.clock()
    record = await _record(plane, caller.cluster, caller.cluster_id)
    authority = await ensure_authority(
        plane.store.credentials,
        plane.settings.wrapping_keys,
        cluster=record.name,
        cluster_id=record.id,
        now=now,
        trust=record.trust,
    )
    try:
        key = verified_public_key(request.csr_pem)
    except RequestRefused as error:
        raise Problem("CertificateRequestRefused", str(error), "csrPem") from None
    certificate = issue_node_certificate(
        authority,
        key,
        cluster=record.name,
        cluster_id=record.id,
        node=caller.node,
        addresses=_addresses(record, caller.node),
        now=now,
    )
    log.info("node_certificate_renewed", cluster=record.name, node=caller.node, agent=request.agent_version)
    ca_pem = authority.certificate_pem if record.trust is None else record.trust.ca_pem
    return Answer(200, model_json(RenewResponse(certificate_pem=certificate, ca_pem=ca_pem)))


async def record_heartbeats(plane: ControlPlane, caller: NodePrincipal, call: Call) -> Answer:
    post = heartbeat_post(call)
    for index, beat in enumerate(post.heartbeats):
        if beat.node != caller.node:
            raise Problem(
                "NodeMismatch",
                f"the credential is of node {caller.node!r}, the heartbeat of node {beat.node!r}",
                f"heartbeats[{index}].node",
            )
    now = plane.clock()
    record, commands = await asyncio.gather(
        _record(plane, caller.cluster, caller.cluster_id), plane.store.commands.of_cluster(caller.cluster_id)
    )
    await _keep(plane, caller, post, now)
    confirmed, commands = await _results(plane, caller, post.command_results, commands, now)
    if confirmed or commands:
        await advance_action(plane.store, record, commands, now)
    if record.trust is not None and record.trust.rotation is not None:
        record = await advance_rotation(plane, record)
    recorded = await record_orders(plane, caller, record, post, now)
    version = configuration_version(record, now)
    newer = version > post.configuration_version and record.state is not ProvisioningState.DELETING
    answer = HeartbeatResponse(
        configuration=_configuration(plane, record, caller.node, now) if newer else None,
        commands=tuple(
            Command(id=command.id, action=command.action, requested_by=command.requested_by, reason=command.reason)
            for command in deliverable([entry.value for entry in commands], caller.node)
            if not withheld(command, post.heartbeats[-1]) and not outdated(record, command)
        ),
        confirmed_results=tuple(confirmed),
        revoked_serials=record.revoked_serials,
        trust=order_for(record.trust, post.heartbeats[-1].certificate),
        rollout=turn_of(record, caller.node, post.heartbeats[-1]),
        orders_recorded=recorded,
    )
    body = model_json(answer)
    for name, value in (("trust", answer.trust), ("ordersRecorded", recorded), ("rollout", answer.rollout)):
        if value is None:
            del body[name]  # an agent that does not know the field refuses the whole answer
    return Answer(200, body)


async def fetch_wheel(plane: ControlPlane, caller: object, call: Call) -> Answer:
    """The wheel new nodes are booted with, or (`sha256`) the one a node was told to change to."""
    wanted = call.query.get("sha256")
    path = plane.settings.agent_wheel  # by whatever name: it boots nodes
    if wanted is not None:
        there = await asyncio.to_thread(offered, path)
        path = next((one.path for one in there if wanted == one.release.sha256), None)
    if path is None or not path.is_file():
        text = "no agent wheel is installed here; set MIRRORPLANE_AGENT_WHEEL to its path"
        raise Problem("WheelNotFound", text if wanted is None else f"there is no agent wheel of SHA-256 {wanted} here")
    content = await asyncio.to_thread(path.read_bytes)
    return Answer(
        200,
        content,
        {"Content-Disposition": f'attachment; filename="{path.name}"', "Cache-Control": "private, no-store"},
        content_type="application/octet-stream",
    )


async def _record(plane: ControlPlane, cluster: str, cluster_id: str) -> ClusterRecord:
    found = await plane.store.clusters.get(cluster)
    if found is None or found.value.id != cluster_id:
        raise Problem("ClusterGone", f"cluster {cluster!r} ({cluster_id}) was deleted; this node belongs to nothing")
    return found.value


def _addresses(record: ClusterRecord, node: NodeName) -> tuple[str, ...]:
    """What the node is reached by: its own addresses and the virtual one."""
    seen = record.resources.nodes.get(node)
    public = () if seen is None or seen.public_address is None else (seen.public_address,)
    virtual = () if record.resources.virtual_ip_address is None else (record.resources.virtual_ip_address,)
    return (node_private_address(record.spec, node), *public, *virtual)


def _configuration(plane: ControlPlane, record: ClusterRecord, node: NodeName, now: datetime) -> Configuration:
    if record.is_farm:
        return farm_configuration(record, node, now)
    return node_configuration(record, node, witness=plane.store.witness.access(record.id, now), now=now)


async def _keep(plane: ControlPlane, caller: NodePrincipal, post: HeartbeatPost, now: datetime) -> None:
    """State first, then history: the state fixes when this agent start was first seen, which keys the history."""
    last = post.heartbeats[-1]
    for _ in range(MAX_ATTEMPTS):
        current = await plane.store.node_states.get(caller.cluster_id, caller.node)
        before = None if current is None else current.value
        same_start = before is not None and before.heartbeat.agent_start_id == last.agent_start_id
        if before is not None and same_start and before.heartbeat.sequence >= last.sequence:
            await plane.store.node_states.append_history(_entries(caller, post.heartbeats, before, before, now))
            return
        state = NodeState(
            cluster_id=caller.cluster_id,
            node=caller.node,
            heartbeat=last,
            agent_version=post.agent_version,
            configuration_version=post.configuration_version,
            received_at=now,
            agent_start_seen_at=before.agent_start_seen_at if before is not None and same_start else now,
        )
        try:
            await plane.store.node_states.put(state, None if current is None else current.etag)
        except (Exists, Changed):
            continue
        turns = role_turns(caller, None if before is None else before.heartbeat, post.heartbeats, now)
        await asyncio.gather(
            plane.store.node_states.append_history(_entries(caller, post.heartbeats, state, before, now)),
            plane.store.audits.append_turns(turns),
        )
        return
    log.warning("state_contended", cluster=caller.cluster, node=caller.node)


def role_turns(
    caller: NodePrincipal, last: Heartbeat | None, beats: Sequence[Heartbeat], now: datetime
) -> list[VerdictTurn]:
    """What the history of the cluster says about a node's role: one line for each change of role or epoch in a post.

    Times are ours; several changes in one post keep their order by a microsecond each. Epoch 0 is not told:
    nobody has served yet, or it is a farm, which has none.
    """
    turns: list[VerdictTurn] = []
    for beat in beats:
        changed = last is None or (last.role, last.epoch) != (beat.role, beat.epoch)
        newer = last is None or last.agent_start_id != beat.agent_start_id or last.sequence < beat.sequence
        if changed and newer:
            turns.append(
                VerdictTurn(
                    cluster_id=caller.cluster_id,
                    cluster=caller.cluster,
                    kind=TurnKind.ROLE,
                    node=caller.node,
                    at=now + timedelta(microseconds=len(turns)),
                    before="" if last is None else last.role.value,
                    after=beat.role.value,
                    rule=beat.rule,
                    sentence=f"epoch {beat.epoch}: {beat.sentence}" if beat.epoch else beat.sentence,
                )
            )
        if newer:
            last = beat
    return turns


def _entries(
    caller: NodePrincipal, beats: Sequence[Heartbeat], state: NodeState, before: NodeState | None, now: datetime
) -> list[HistoryEntry]:
    """A post may begin with heartbeats that an earlier agent start left in its buffer."""
    seen_at = {state.heartbeat.agent_start_id: state.agent_start_seen_at}
    if before is not None:
        seen_at.setdefault(before.heartbeat.agent_start_id, before.agent_start_seen_at)
    return [
        HistoryEntry(
            cluster_id=caller.cluster_id,
            node=caller.node,
            heartbeat=beat,
            received_at=now,
            agent_start_seen_at=seen_at.get(beat.agent_start_id, now),
        )
        for beat in beats
    ]


async def _results(
    plane: ControlPlane,
    caller: NodePrincipal,
    results: Sequence[CommandResult],
    commands: list[Versioned[NodeCommand]],
    now: datetime,
) -> tuple[list[str], list[Versioned[NodeCommand]]]:
    """Records results; returns the ids to confirm and the commands as they are now. A result of a command that is
    not here any more (its operation timed out) is confirmed too, so that the node stops repeating it."""
    confirmed: list[str] = []
    by_id = {entry.value.id: entry for entry in commands}
    for result in results:
        entry = by_id.get(result.id)
        final = result.status != "accepted"
        if entry is None or entry.value.node != caller.node:
            if final:
                confirmed.append(result.id)
            continue
        status = _STATUS[result.status]
        if not entry.value.is_final and (entry.value.status, entry.value.message) != (status, result.message):
            moved = entry.value.model_copy(update={"status": status, "message": result.message, "updated_at": now})
            try:
                await plane.store.commands.replace(moved, entry.etag)
            except Changed:
                continue  # not confirmed, so the node repeats it and the next post meets the newer row
            log.info("command_result", cluster=caller.cluster, node=caller.node, command=result.id, status=status.value)
        if final:
            confirmed.append(result.id)
    return confirmed, await plane.store.commands.of_cluster(caller.cluster_id) if results else commands
