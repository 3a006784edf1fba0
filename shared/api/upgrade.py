"""`POST clusters/{name}:upgrade`: another release of the agent on every node, one after another.

The record is written first, with the rollout in it; operation row and queue message follow as for an update, so a crash
anywhere is repaired like one of those. Asking again for the release that is being rolled out changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from mirror_agent.contract import AGENT_VERSION
from pydantic import Field, StringConstraints

from shared.api import rotation
from shared.api.call import Answer, Call, body_of
from shared.api.clusters import named_cluster, operation_answer, wish_of
from shared.api.dispatch import start_operation
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.model.document import ApiModel
from shared.model.operation import Operation, OperationKind
from shared.model.principal import AccessRole, Principal
from shared.model.rollout import UPGRADE
from shared.provisioning.limits import Limits
from shared.provisioning.windows_artifacts import UPGRADE_REFUSED
from shared.rollout.advance import see
from shared.rollout.releases import NoSuchRelease, chosen
from shared.rollout.wish import decide_upgrade
from shared.store.ports import Changed
from shared.structured_log import Log

MAX_ATTEMPTS: Final = 5
log = Log("mirrorplane.upgrade")


class UpgradeRequest(ApiModel):
    """Optional body. `version`: of the agent; without it the one new nodes are booted with."""

    reason: str = Field(default="", max_length=500)
    version: Annotated[str, StringConstraints(max_length=64)] | None = None


async def act(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    """`POST clusters/{name}:{action}`: an upgrade here, everything else by `rotation` and commands. Raises Problem."""
    name, _, word = call.route["nameAndAction"].partition(":")
    if word != UPGRADE:
        return await rotation.act(plane, caller, call)
    if not caller.may(AccessRole.ADMIN):
        raise Problem("Forbidden", f"{UPGRADE} needs the role {AccessRole.ADMIN.value}")
    request = body_of(call, UpgradeRequest) if call.body else UpgradeRequest()
    wish = wish_of(plane, caller, call)
    try:
        release = await asyncio.to_thread(chosen, plane.settings.agent_wheel, request.version)
    except NoSuchRelease as error:
        raise Problem("WheelNotFound", str(error), "version") from None
    for _ in range(MAX_ATTEMPTS):
        record = await named_cluster(plane, name)
        found = await plane.store.clusters.get(name)
        if found is None or found.value.id != record.id:
            continue
        if wish.named and (known := await _known(plane, record.id, wish.operation_id)) is not None:
            return operation_answer(plane, known)
        if found.value.spec.compute.os == "windows":
            raise Problem("UnsupportedOperatingSystem", UPGRADE_REFUSED, "compute.os")
        sight = await see(plane.store, found.value, plane.clock(), Limits().fresh_s)
        wanted = decide_upgrade(found.value, release, sight, AGENT_VERSION, wish, request.reason)
        if wanted is None:
            return operation_answer(plane, await start_operation(plane.store, found.value, plane.clock()))
        try:
            written = (await plane.store.clusters.replace(wanted, found.etag)).value
        except Changed:
            continue
        log.info("upgrade_accepted", cluster=name, version=release.version, operation=wish.operation_id)
        return operation_answer(plane, await start_operation(plane.store, written, plane.clock()))
    raise Problem("OperationInProgress", f"cluster {name!r} is being changed by others; try again")


async def _known(plane: ControlPlane, cluster_id: str, operation_id: str) -> Operation | None:
    """The operation the caller named, if it is this request sent again. Raises Problem if it is another one."""
    found = await plane.store.operations.get(operation_id)
    if found is None:
        return None
    if found.value.cluster_id == cluster_id and found.value.kind is OperationKind.UPGRADE:
        return found.value
    raise Problem("OperationIdReused", f"Operation-Id {operation_id!r} was used for another request", "Operation-Id")
