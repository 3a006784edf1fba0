"""Actions on virtual machines and their instance view.

Power comes from the provider (the real thing), never from what was ordered last: a VM whose PID 1 was killed shows
`PowerState/stopped` at once. While an action runs, the view shows the transitional state.
"""

from __future__ import annotations

from typing import Any

from lab.arm.availability import note_order
from lab.arm.core import Core, Response, Work, utc_now
from lab.arm.errors import ArmError, compute_parameter, not_modelled
from lab.arm.ids import ResourceId
from lab.arm.kinds.machine import VirtualMachine
from lab.arm.kinds.registry import kind_of
from lab.arm.provider import PowerState
from lab.arm.resources import Resources, busy, settle
from lab.arm.schema import BodyCheck, model_class
from lab.arm.state import CREATING, DELETING, UPDATING, Resource

TYPE = VirtualMachine.type
ACTIONS = ("start", "restart", "powerOff", "deallocate", "redeploy", "reapply", "runCommand")
_TRANSITION = {"start": "starting", "restart": "starting", "powerOff": "stopping", "deallocate": "deallocating"}
MAX_OUTPUT_CHARS = 4096  # learn.microsoft.com: run command, "output is limited to the last 4,096 bytes"


class Machines:
    def __init__(self, core: Core, resources: Resources) -> None:
        self._core = core
        self._resources = resources

    # --- instance view ---------------------------------------------------------------------------------------------
    async def get_expanded(self, rid: ResourceId) -> Response:
        """GET with `$expand=instanceView`."""
        answer = self._resources.get(rid)
        view = await self._view(self._resources.find(rid))
        if answer.body is not None:
            answer.body["properties"]["instanceView"] = view
        return answer

    async def instance_view(self, rid: ResourceId) -> Response:
        self._core.faults.strike_request("GET", TYPE, rid.name, "instanceView")
        return Response(200, await self._view(self._resources.find(rid)))

    async def _view(self, vm: Resource) -> dict[str, Any]:
        now = utc_now()
        provisioning: dict[str, Any] = {
            "code": f"ProvisioningState/{vm.state.lower()}",
            "level": "Info",
            "displayStatus": f"Provisioning {vm.state.lower()}",
            "time": now,
        }
        if vm.error is not None:
            provisioning["code"] += f"/{vm.error['code']}"
            provisioning |= {"level": "Error", "message": vm.error["message"]}
        statuses = [provisioning]
        power = await self._power(vm)
        if power is not None:
            statuses.append({"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"})
        return {
            "computerName": vm.properties["osProfile"]["computerName"],
            "vmAgent": _agent_view(power == PowerState.RUNNING, now),
            "statuses": statuses,
        }

    async def _power(self, vm: Resource) -> str | None:
        transition = _TRANSITION.get(self._core.acting.get(vm.id.lower(), ""))
        if transition is not None:
            return transition
        power = await self._core.provider.vm_power_state(vm.id)
        if power is PowerState.UNKNOWN:
            return "starting" if vm.state == CREATING else None
        return power.value

    # --- actions ---------------------------------------------------------------------------------------------------
    async def act(self, rid: ResourceId, action: str, query: dict[str, str], body: Any, api_version: str) -> Response:
        known = {name.lower(): name for name in ACTIONS}
        if action.lower() not in known:
            raise not_modelled(f"VM action '{action}'", action)
        action = known[action.lower()]
        core, kind = self._core, kind_of(TYPE)
        core.faults.strike_request("POST", TYPE, rid.name, action)
        core.writable_group(rid.group)
        script = self._script(self._resources.find(rid), body) if action == "runCommand" else ""
        power = await core.provider.vm_power_state(self._resources.find(rid).id)
        vm = self._resources.find(rid)  # again: it may have gone while the provider was asked
        if vm.operation is not None:
            if core.acting.get(vm.id.lower()) == "runCommand" and action == "runCommand":
                raise ArmError(
                    409,
                    "Conflict",
                    "Run command extension execution is in progress. Please wait for completion before invoking a run "
                    "command.",
                )
            raise busy(kind, vm, core)
        _refuse_in_power_state(vm, action, power)
        note_order(vm.assigned, action)
        return self._start(vm, action, self._work(vm, action, query, script), api_version)

    def _start(self, vm: Resource, action: str, work: Work, api_version: str) -> Response:
        core, key, before = self._core, vm.id.lower(), vm.state
        core.acting[key] = action
        if action != "runCommand":
            vm.state = UPDATING

        def done(error: ArmError | None) -> None:
            core.acting.pop(key, None)
            if vm.state == DELETING:
                return
            if action == "runCommand":
                vm.state = before
            else:
                settle(vm, error)

        operation = core.start(
            verb=action,
            method="POST",
            operation_name=f"{TYPE}/{action}/action",
            target=vm,
            delay_s=core.timing.action_s,
            fault=core.faults.for_operation("POST", TYPE, vm.rid.name, action),
            work=work,
            settle=done,
        )
        return core.accepted(operation, api_version, status=202, body=None)

    def _work(self, vm: Resource, action: str, query: dict[str, str], script: str) -> Work:
        provider, core = self._core.provider, self._core

        async def work() -> dict[str, Any] | None:
            match action:
                case "start":
                    await provider.start_vm(vm.id)
                case "restart":
                    await provider.restart_vm(vm.id)
                case "redeploy":
                    await provider.redeploy_vm(vm.id)
                case "deallocate":
                    await provider.deallocate_vm(vm.id)
                case "powerOff":
                    hard = query.get("skipshutdown", "false").lower() == "true"
                    await provider.power_off_vm(vm.id, skip_shutdown=hard)
                case "reapply":
                    await core.physical.apply(vm, vm, utc_now())
                case "runCommand":
                    return _command_output(await provider.run_command(vm.id, script))
            return None

        return work

    @staticmethod
    def _script(vm: Resource, body: Any) -> str:
        wish = BodyCheck("Microsoft.Compute").check(model_class("azure.mgmt.compute", "RunCommandInput"), body)
        shell = "RunPowerShellScript" if "windowsConfiguration" in vm.properties["osProfile"] else "RunShellScript"
        if wish["commandId"] != shell:
            raise not_modelled(f"Run command '{wish['commandId']}' on this VM", "commandId")
        if wish.get("parameters"):
            raise not_modelled("Parameters of a run command", "parameters")
        if not wish.get("script"):
            raise compute_parameter("Required parameter 'script' is missing (null).", "script")
        return "\n".join(wish["script"])


def _refuse_in_power_state(vm: Resource, action: str, power: PowerState) -> None:
    if action == "runCommand" and power is not PowerState.RUNNING:
        raise ArmError(409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.")
    if action == "restart" and power is PowerState.DEALLOCATED:
        raise ArmError(
            409,
            "OperationNotAllowed",
            f"Cannot restart VM '{vm.rid.name}' since it is deallocated. Start the VM first.",
        )


def _agent_view(ready: bool, now: str) -> dict[str, Any]:
    """The lab has no VM agent, but run command works exactly while the VM runs: so that is what is reported."""
    status = {
        "code": "ProvisioningState/succeeded" if ready else "ProvisioningState/Unavailable",
        "level": "Info" if ready else "Warning",
        "displayStatus": "Ready" if ready else "Not Ready",
        "time": now,
    }
    return {"vmAgentVersion": "lab", "statuses": [status]}


def _command_output(result: Any) -> dict[str, Any]:
    """Azure's shape: the exit code is lost, both streams are in one message, each cut to its tail."""
    message = (
        f"Enable {'succeeded' if result.exit_code == 0 else 'failed: exit status ' + str(result.exit_code)}: \n"
        f"[stdout]\n{result.stdout[-MAX_OUTPUT_CHARS:]}\n[stderr]\n{result.stderr[-MAX_OUTPUT_CHARS:]}"
    )
    return {
        "value": [
            {
                "code": "ProvisioningState/succeeded",
                "level": "Info",
                "displayStatus": "Provisioning succeeded",
                "message": message,
            }
        ]
    }
