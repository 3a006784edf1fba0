"""Requests on extensions of virtual machines: GET, list, PUT; a PUT runs the command in the VM.

Unlike the children of network resources an extension is a resource of its own in ARM's lists, with its own state and
operation, and it goes with its VM. Azure runs a handler again when its settings differ from the last ones; protected
settings cannot be compared from outside, so here every accepted PUT that differs in what it shows, brings protected
settings, or follows a failure runs the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lab.arm.core import Core, Response, utc_now
from lab.arm.errors import ArmError, resource_not_found
from lab.arm.ids import ResourceId
from lab.arm.kinds.extension import PROTECTED, VmExtension, command_of, failed
from lab.arm.kinds.registry import kind_of
from lab.arm.provider import PowerState
from lab.arm.resources import busy, check_preconditions, settle
from lab.arm.schema import BodyCheck, model_class
from lab.arm.state import CREATING, SUCCEEDED, UPDATING, Resource

TYPE: Final = VmExtension.type


def is_extension(rid: ResourceId) -> bool:
    return rid.type.lower() == TYPE.lower()


class Extensions:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, rid: ResourceId) -> Response:
        self._core.faults.strike_request("GET", TYPE, rid.name)
        self._core.group(rid.group)
        found = self._core.state.find(str(rid))
        if found is None:
            raise resource_not_found(TYPE, f"{rid.parent.name}/{rid.name}", rid.group)
        return Response(200, kind_of(TYPE).render(found, self._core.state))

    def list_of(self, vm: ResourceId) -> Response:
        below = f"{str(vm).lower()}/"
        state = self._core.state
        found = [kind_of(TYPE).render(one, state) for one in state.of_type(TYPE) if one.id.lower().startswith(below)]
        return Response(200, {"value": found})

    async def put(self, rid: ResourceId, body: Any, headers: Mapping[str, str], api_version: str) -> Response:
        core, kind = self._core, kind_of(TYPE)
        core.faults.strike_request("PUT", TYPE, rid.name)
        core.writable_group(rid.group)
        wish = BodyCheck("Microsoft.Compute").check(model_class(kind.module, kind.model), body)
        old = core.state.find(str(rid))
        check_preconditions(kind, old, headers, core)
        kind.check(rid, wish, old, core.state)
        vm = core.state.find(str(rid.parent))
        assert vm is not None, "checked by the kind"
        if await core.provider.vm_power_state(vm.id) is not PowerState.RUNNING:
            raise ArmError(409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.")
        old = core.state.find(str(rid))  # again: the provider was asked meanwhile
        for resource in (one for one in (old, vm) if one is not None):
            if resource.operation is not None:
                raise busy(kind, resource, core)
        again = old is not None and old.state == SUCCEEDED and PROTECTED not in wish["properties"]
        if old is not None and again and kind.bare(wish) == old.wish:
            return Response(200, kind.render(old, core.state))
        rid = ResourceId(
            rid.subscription, vm.rid.group, "Microsoft.Compute", (vm.rid.path[0], ("extensions", rid.name))
        )
        resource = old if old is not None else Resource(str(rid), wish, utc_now())
        resource.wish = wish
        kind.assign(resource, core.state)
        resource.error = None
        resource.generation += 1
        resource.state = CREATING if resource.generation == 1 else UPDATING
        core.state.resources[resource.id.lower()] = resource
        operation = core.start(
            verb="write",
            method="PUT",
            operation_name=f"{TYPE}/write",
            target=resource,
            delay_s=core.timing.write_s,
            fault=core.faults.for_operation("PUT", TYPE, rid.name),
            work=lambda: self._run(resource, vm),
            settle=lambda error: settle(resource, error),
        )
        status = kind.created_status if resource.generation == 1 else kind.updated_status
        return core.accepted(operation, api_version, status=status, body=kind.render(resource, core.state))

    async def _run(self, resource: Resource, vm: Resource) -> None:
        done = await self._core.provider.run_extension(vm.id, command_of(resource))
        if done.exit_code != 0:
            text = (done.stdout + done.stderr).strip().replace("'", '"')[-800:]
            reason = "Command execution finished, but failed because it returned a non-zero exit code of:"
            raise failed(resource, f'{reason} "{done.exit_code}" {text}')
