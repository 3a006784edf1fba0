"""`Arm` and `Machines` over Microsoft's management clients.

Which client and which method serves a resource type is a table; everything else is the same for all types. Bodies pass
through the SDK's model of the type, which drops read-only properties, so that "get, change, put" works as ARM means it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from mirror_agent.contract import OperatingSystem

from shared.azure.faults import ArmError, Fault, kind_of_answer, kind_of_failure
from shared.azure.ports import Accepted, ArmOperation, InstanceView, OperationState, PowerAction
from shared.azure.resources import Body, ListedResource, ResourceRef, ResourceType, parse_id
from shared.azure.session import AzureSession, retry_after_s

# Type → (client of the session, operation group, model of the body).
_GROUPS: Final[Mapping[ResourceType, tuple[str, str, str]]] = MappingProxyType(
    {
        ResourceType.PUBLIC_IP: ("network", "public_ip_addresses", "PublicIPAddress"),
        ResourceType.SECURITY_GROUP: ("network", "network_security_groups", "NetworkSecurityGroup"),
        ResourceType.NAT_GATEWAY: ("network", "nat_gateways", "NatGateway"),
        ResourceType.VIRTUAL_NETWORK: ("network", "virtual_networks", "VirtualNetwork"),
        ResourceType.LOAD_BALANCER: ("network", "load_balancers", "LoadBalancer"),
        ResourceType.NETWORK_INTERFACE: ("network", "network_interfaces", "NetworkInterface"),
        ResourceType.DISK: ("compute", "disks", "Disk"),
        ResourceType.AVAILABILITY_SET: ("compute", "availability_sets", "AvailabilitySet"),
        ResourceType.PROXIMITY_GROUP: ("compute", "proximity_placement_groups", "ProximityPlacementGroup"),
        ResourceType.VIRTUAL_MACHINE: ("compute", "virtual_machines", "VirtualMachine"),
        ResourceType.VM_EXTENSION: ("compute", "virtual_machine_extensions", "VirtualMachineExtension"),
        ResourceType.GROUP: ("resource", "resource_groups", "ResourceGroup"),
    }
)
assert set(_GROUPS) == set(ResourceType), "a resource type has no client"

# Types whose writes ARM answers at once; the SDK has no `begin_` method for them.
_IMMEDIATE: Final = frozenset({ResourceType.GROUP, ResourceType.AVAILABILITY_SET, ResourceType.PROXIMITY_GROUP})
_NOT_FOUND: Final = 404
_SHELLS: Final[Mapping[OperatingSystem, str]] = MappingProxyType(
    {"linux": "RunShellScript", "windows": "RunPowerShellScript"}
)


class AzureArm:
    """See `shared.azure.ports.Arm`."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def get(self, ref: ResourceRef) -> Body | None:
        def read() -> Body:
            body: Body = self._operations(ref).get(*_names(ref)).as_dict()
            return body

        try:
            return await self._session.call(read)
        except ArmError as error:
            if error.fault.status == _NOT_FOUND:
                return None
            raise

    async def put(self, ref: ResourceRef, body: Mapping[str, object], etag: str | None) -> Accepted:
        headers = {} if etag is None else {"If-Match": etag}

        def write() -> Accepted:
            operations = self._operations(ref)
            model = self._model(ref, body)
            if ref.type in _IMMEDIATE:
                return Accepted(operations.create_or_update(*_names(ref), model, headers=headers).as_dict(), None)
            first = _FirstAnswer()
            operations.begin_create_or_update(*_names(ref), model, headers=headers, polling=first)
            return first.accepted

        return await self._session.call(write)

    async def delete(self, ref: ResourceRef) -> Accepted:
        def remove() -> Accepted:
            if ref.type in _IMMEDIATE and ref.type is not ResourceType.GROUP:
                self._operations(ref).delete(*_names(ref))
                return Accepted(None, None)
            first = _FirstAnswer()
            self._operations(ref).begin_delete(*_names(ref), polling=first)
            return first.accepted

        try:
            return await self._session.call(remove)
        except ArmError as error:
            if error.fault.status == _NOT_FOUND:
                return Accepted(None, None)
            raise

    async def list_group(self, group: str) -> list[ListedResource]:
        def read() -> list[ListedResource]:
            listed = []
            for row in self._session.resource.resources.list_by_resource_group(group):
                resource_id, kind, name = str(row.id), str(row.type), str(row.name)
                listed.append(ListedResource(resource_id, kind, name, dict(row.tags or {}), parse_id(resource_id)))
            return listed

        try:
            return await self._session.call(read)
        except ArmError as error:
            if error.fault.status == _NOT_FOUND:
                return []
            raise

    async def operation(self, url: str) -> ArmOperation | None:
        # The call carries our token: only ever to the ARM we were configured for.
        if urlsplit(url).netloc.lower() != urlsplit(self._session.settings.endpoint).netloc.lower():
            return None

        def read() -> tuple[int, Any, object]:
            from azure.core.rest import HttpRequest

            answer = self._session.resource.send_request(HttpRequest("GET", url))
            body = answer.json() if answer.content else None
            return answer.status_code, body, answer.headers.get("Retry-After")

        status, body, wait = await self._session.call(read)
        return _operation(status, body, retry_after_s(wait))

    def _operations(self, ref: ResourceRef) -> Any:
        client, group, _ = _GROUPS[ref.type]
        return getattr(getattr(self._session, client), group)

    def _model(self, ref: ResourceRef, body: Mapping[str, object]) -> Any:
        client, _, model = _GROUPS[ref.type]
        match client:
            case "network":
                from azure.mgmt.network import models
            case "compute":
                from azure.mgmt.compute import models  # type: ignore[no-redef]
            case _:
                from azure.mgmt.resource.resources import models  # type: ignore[no-redef]
        return getattr(models, model)(dict(body))


class AzureMachines:
    """See `shared.azure.ports.Machines`."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session

    async def instance_view(self, ref: ResourceRef) -> InstanceView | None:
        def read() -> Body:
            view: Body = self._session.compute.virtual_machines.instance_view(*_names(ref)).as_dict()
            return view

        try:
            return parse_instance_view(await self._session.call(read))
        except ArmError as error:
            if error.fault.status == _NOT_FOUND:
                return None
            raise

    async def power(self, ref: ResourceRef, action: PowerAction) -> Accepted:
        def begin() -> Accepted:
            machines = self._session.compute.virtual_machines
            first = _FirstAnswer()
            match action:
                case PowerAction.START:
                    machines.begin_start(*_names(ref), polling=first)
                case PowerAction.RESTART:
                    machines.begin_restart(*_names(ref), polling=first)
                case PowerAction.REDEPLOY:
                    machines.begin_redeploy(*_names(ref), polling=first)
                case PowerAction.REAPPLY:
                    machines.begin_reapply(*_names(ref), polling=first)
                case PowerAction.POWER_OFF:
                    machines.begin_power_off(*_names(ref), skip_shutdown=False, polling=first)
                case PowerAction.POWER_OFF_HARD:
                    machines.begin_power_off(*_names(ref), skip_shutdown=True, polling=first)
                case PowerAction.DEALLOCATE:
                    machines.begin_deallocate(*_names(ref), polling=first)
            return first.accepted

        return await self._session.call(begin)

    async def run_command(self, ref: ResourceRef, script: tuple[str, ...], os: OperatingSystem = "linux") -> Accepted:
        def begin() -> Accepted:
            from azure.mgmt.compute.models import RunCommandInput

            command = RunCommandInput(command_id=_SHELLS[os], script=list(script))
            first = _FirstAnswer()
            self._session.compute.virtual_machines.begin_run_command(ref.group, ref.name, command, polling=first)
            return first.accepted

        return await self._session.call(begin)


def parse_instance_view(view: Mapping[str, Any]) -> InstanceView:
    """Azure's status list: `PowerState/running`, `ProvisioningState/failed/AllocationFailed`."""
    power = provisioning = None
    fault = None
    for status in view.get("statuses") or []:
        area, _, rest = str(status.get("code", "")).partition("/")
        state, _, code = rest.partition("/")
        if area == "PowerState":
            power = state
        elif area == "ProvisioningState":
            provisioning = state
            if state == "failed":
                fault = Fault(kind_of_failure(code), code or "ProvisioningFailed", str(status.get("message") or code))
    agent = (view.get("vmAgent") or {}).get("statuses") or []
    ready = any(str(status.get("code", "")) == "ProvisioningState/succeeded" for status in agent)
    return InstanceView(power, provisioning, ready, fault)


def _names(ref: ResourceRef) -> tuple[str, ...]:
    return (ref.group,) if ref.type is ResourceType.GROUP else (ref.group, *ref.name.split("/"))


class _FirstAnswer:
    """A polling method of the SDK that does not poll: it keeps what ARM answered to the request itself."""

    accepted: Accepted = Accepted(None, None)

    def initialize(self, _client: Any, initial_response: Any, _deserialize: Any) -> None:
        response = initial_response.http_response
        headers = response.headers
        url = headers.get("Azure-AsyncOperation") or headers.get("Location")
        body = response.json() if response.text().strip() else None
        self.accepted = Accepted(body, url, retry_after_s(headers.get("Retry-After")))

    def finished(self) -> bool:
        return True

    def status(self) -> str:
        return "Succeeded"

    def resource(self) -> Body | None:
        return self.accepted.body

    def run(self) -> None:
        """Never called: it is finished from the beginning."""


def _operation(status: int, body: Any, wait_s: float | None) -> ArmOperation | None:
    if status == _NOT_FOUND:
        return None
    error = body.get("error") if isinstance(body, Mapping) else None
    code = str((error or {}).get("code") or "OperationFailed")
    message = str((error or {}).get("message") or f"ARM reports the operation as failed (HTTP {status})")
    state = str(body.get("status", "")).lower() if isinstance(body, Mapping) else ""
    if state in ("failed", "canceled", "cancelled"):
        code = code if error else ("Canceled" if state != "failed" else code)
        return ArmOperation(OperationState.FAILED, Fault(kind_of_failure(code), code, message))
    if status == 429 or status >= 500:
        raise ArmError(Fault(kind_of_answer(status, code), code, message, status, wait_s))
    if status >= 400:
        return ArmOperation(OperationState.FAILED, Fault(kind_of_answer(status, code), code, message, status))
    # A `Location` answers 202 while it runs and has no status; an `Azure-AsyncOperation` always names one.
    if state:
        return ArmOperation(OperationState.SUCCEEDED if state == "succeeded" else OperationState.RUNNING)
    return ArmOperation(OperationState.RUNNING if status == 202 else OperationState.SUCCEEDED)
