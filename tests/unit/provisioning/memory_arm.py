"""Azure Resource Manager in memory, honest about what matters to a reconciler.

It has what makes ARM hard: work that takes time (by the test's clock), references that must exist and be ready,
resources in use that cannot be deleted, ETags, ids in changed case, values it adds itself, secrets it never returns,
throttling, failed operations whose reason only the operation tells. Not imitated: quotas, regions, role assignments.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.azure.faults import ArmError, Fault, FaultKind, kind_of_answer, kind_of_failure
from shared.azure.ports import Accepted, ArmOperation, OperationState
from shared.azure.resources import Body, ListedResource, ResourceRef, ResourceType, known_type, parse_id
from tests.control_plane_samples import Clock

SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
# Types that exist at once; all others take `latency_s`.
_IMMEDIATE = frozenset({ResourceType.GROUP, ResourceType.SECURITY_GROUP})


@dataclass
class _Stored:
    ref: ResourceRef
    body: Body
    etag: str
    state: str
    settles_at: datetime
    failure: tuple[str, str] | None = None
    operation: str | None = None


@dataclass
class _Operation:
    ends_at: datetime
    failure: tuple[str, str] | None = None


@dataclass
class MemoryArm:
    clock: Clock
    latency_s: float = 4.0
    resources: dict[tuple[str, str, str], _Stored] = field(default_factory=dict)
    foreign: list[ListedResource] = field(default_factory=list)
    puts: Counter[str] = field(default_factory=Counter)
    deletes: Counter[str] = field(default_factory=Counter)
    custom_data: dict[str, list[str]] = field(default_factory=dict)
    passwords: dict[str, list[str]] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    """What extensions were told to run, by the name of the VM."""
    calls: int = 0
    _call_faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    _failures: list[tuple[str, str, str]] = field(default_factory=list)
    _operations: dict[str, _Operation] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- what a test arranges ---------------------------------------------------------------------------------------
    def answer(
        self, call: str, name: str, status: int, code: str, *, times: int = 1, retry_after_s: float | None = None
    ) -> None:
        """The next `times` calls (`get`, `put`, `delete`, `list`) about the resource `name` get an error."""
        fault = Fault(kind_of_answer(status, code), code, f"injected {code}", status, retry_after_s)
        self._call_faults += [(call, name, fault)] * times

    def fail_operation(self, name: str, code: str, message: str = "injected", times: int = 1) -> None:
        """The next `times` PUTs of `name` are accepted and fail later."""
        self._failures += [(name, code, message)] * times

    def place(self, ref: ResourceRef, body: Body) -> None:
        """A resource that is there, made by somebody else or earlier."""
        self._store(ref, body, "Succeeded", self.clock())

    def names(self) -> set[str]:
        return {stored.ref.name for stored in self.resources.values()} | {row.name for row in self.foreign}

    def body(self, name: str) -> Body:
        return next(self._view(stored) for stored in self.resources.values() if stored.ref.name == name)

    # --- the port ---------------------------------------------------------------------------------------------------
    async def get(self, ref: ResourceRef) -> Body | None:
        self._enter("get", ref.name)
        stored = self._current(ref)
        return None if stored is None else self._view(stored)

    async def put(self, ref: ResourceRef, body: Mapping[str, object], etag: str | None) -> Accepted:
        self._enter("put", ref.name)
        before = self._current(ref)
        if ref.type is not ResourceType.GROUP and self._current(_group(ref)) is None:
            raise _refusal(404, "ResourceGroupNotFound", f"group {ref.group} is not there")
        if before is not None and before.state in ("Creating", "Updating", "Deleting"):
            raise _refusal(409, "AnotherOperationInProgress", f"{ref.name} is {before.state}")
        if etag is not None and (before is None or before.etag != etag):
            raise _refusal(412, "PreconditionFailed", f"{ref.name} was changed")
        self._require_references(ref, body)
        sent: Body = copy.deepcopy(dict(body))
        _refuse_secret_change(ref, sent, before is not None, self.custom_data, self.passwords)
        if ref.type is ResourceType.VM_EXTENSION:
            self._take_command(ref, sent)
        self.puts[ref.name] += 1
        immediate = ref.type in _IMMEDIATE
        state = "Succeeded" if immediate else ("Creating" if before is None else "Updating")
        settles = self.clock() if immediate else self.clock() + timedelta(seconds=self.latency_s)
        stored = self._store(ref, sent, state, settles)
        stored.failure = self._take_failure(ref.name)
        if immediate and stored.failure is None:
            return Accepted(self._view(stored), None)
        url = f"https://arm.invalid/operations/{next(self._numbers)}"
        self._operations[url] = _Operation(settles, stored.failure)
        return Accepted(self._view(stored), url)

    async def delete(self, ref: ResourceRef) -> Accepted:
        self._enter("delete", ref.name)
        stored = self._current(ref)
        if stored is None:
            return Accepted(None, None)
        if stored.state == "Deleting":
            return Accepted(None, None)
        users = [other.ref.name for other in self._settled() if self._refers(other, ref)]
        if users:
            raise _refusal(400, "InUseSubnetCannotBeDeleted", f"{ref.name} is used by {users}")
        self.deletes[ref.name] += 1
        stored.state = "Deleting"
        stored.settles_at = self.clock() + timedelta(seconds=self.latency_s)
        return Accepted(None, None)

    async def list_group(self, group: str) -> list[ListedResource]:
        self._enter("list", group)
        rows = []
        for stored in self._settled():
            if stored.ref.group.lower() == group.lower() and stored.ref.type is not ResourceType.GROUP:
                # Azure's list spells group and type as it likes.
                resource_id = stored.ref.id(SUBSCRIPTION).replace(group, group.upper())
                tags = dict(stored.body.get("tags") or {})
                row = ListedResource(resource_id, stored.ref.type.value, stored.ref.name, tags, parse_id(resource_id))
                rows.append(row)
        return rows + [row for row in self.foreign if group.lower() in row.id.lower()]

    async def operation(self, url: str) -> ArmOperation | None:
        self._enter("operation", url)
        found = self._operations.get(url)
        if found is None:
            return None
        if self.clock() < found.ends_at:
            return ArmOperation(OperationState.RUNNING)
        if found.failure is not None:
            code, message = found.failure
            return ArmOperation(OperationState.FAILED, Fault(kind_of_failure(code), code, message))
        return ArmOperation(OperationState.SUCCEEDED)

    # --- how it works -----------------------------------------------------------------------------------------------
    def _enter(self, call: str, name: str) -> None:
        self.calls += 1
        for entry in self._call_faults:
            if entry[:2] == (call, name):
                self._call_faults.remove(entry)
                raise ArmError(entry[2])

    def _store(self, ref: ResourceRef, body: Body, state: str, settles: datetime) -> _Stored:
        body.setdefault("properties", {})
        _add_what_azure_adds(ref, body, next(self._numbers))
        stored = _Stored(ref, body, f'W/"{next(self._numbers)}"', state, settles)
        self.resources[ref.key] = stored
        return stored

    def _current(self, ref: ResourceRef) -> _Stored | None:
        stored = self.resources.get(ref.key)
        if stored is None:
            return None
        if stored.state in ("Creating", "Updating", "Deleting") and self.clock() >= stored.settles_at:
            if stored.state == "Deleting":
                del self.resources[ref.key]
                if ref.type is ResourceType.VIRTUAL_MACHINE:
                    below = [key for key, other in self.resources.items() if other.ref.name.startswith(f"{ref.name}/")]
                    for key in below:
                        del self.resources[key]
                return None
            stored.state = "Succeeded" if stored.failure is None else "Failed"
        return stored

    def _settled(self) -> list[_Stored]:
        return [
            stored for ref in [s.ref for s in self.resources.values()] if (stored := self._current(ref)) is not None
        ]

    def _view(self, stored: _Stored) -> Body:
        view = copy.deepcopy(stored.body)
        view |= {"id": stored.ref.id(SUBSCRIPTION), "name": stored.ref.name, "type": stored.ref.type.value}
        if stored.ref.type is not ResourceType.GROUP:
            view["etag"] = stored.etag
        view["properties"]["provisioningState"] = stored.state
        if stored.state != "Succeeded":
            view["properties"].pop("ipAddress", None)
        return view

    def _take_command(self, ref: ResourceRef, body: Body) -> None:
        """An extension runs its command at every write, and can do nothing without one or without a VM."""
        vm = ref.name.partition("/")[0]
        parent = self._current(ResourceRef(ResourceType.VIRTUAL_MACHINE, ref.group, vm))
        if parent is None or parent.state != "Succeeded":
            raise _refusal(404, "ParentResourceNotFound", f"{vm} is not there or not ready")
        protected = body["properties"].pop("protectedSettings", {})
        if "commandToExecute" not in protected:
            raise _refusal(400, "VMExtensionProvisioningError", "'commandToExecute' is not specified")
        self.commands.setdefault(vm, []).append(protected["commandToExecute"])

    def _require_references(self, ref: ResourceRef, body: Mapping[str, object]) -> None:
        for target in _references(body):
            if target == ref or target.key == ref.key:
                continue
            there = self._current(target)
            if there is None:
                raise _refusal(404, "NotFound", f"{ref.name} refers to {target.name}, which is not there")
            if there.state != "Succeeded":
                raise _refusal(429, "ReferencedResourceNotProvisioned", f"{target.name} is {there.state}")

    def _refers(self, other: _Stored, ref: ResourceRef) -> bool:
        if other.ref.key == ref.key or ref.type is ResourceType.GROUP:
            return False
        return any(target.key == ref.key for target in _references(other.body))

    def _take_failure(self, name: str) -> tuple[str, str] | None:
        for entry in self._failures:
            if entry[0] == name:
                self._failures.remove(entry)
                return entry[1], entry[2]
        return None


def _group(ref: ResourceRef) -> ResourceRef:
    return ResourceRef(ResourceType.GROUP, ref.group, ref.group)


def _references(value: Any) -> Iterator[ResourceRef]:
    """Resources named by an `id` anywhere in a body; a child's id names its parent."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key == "id" and isinstance(entry, str):
                parts = entry.split("/")
                if len(parts) >= 9 and known_type(f"{parts[6]}/{parts[7]}") is not None:
                    found = parse_id("/".join(parts[:9]))
                    if found is not None:
                        yield found
            else:
                yield from _references(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _references(entry)


def _refusal(status: int, code: str, message: str) -> ArmError:
    return ArmError(Fault(kind_of_answer(status, code), code, message, status))


def _refuse_secret_change(
    ref: ResourceRef, body: Body, exists: bool, kept: dict[str, list[str]], passwords: dict[str, list[str]]
) -> None:
    if ref.type is not ResourceType.VIRTUAL_MACHINE:
        return
    profile = body.get("properties", {}).get("osProfile")
    data = None if profile is None else profile.pop("customData", None)
    password = None if profile is None else profile.pop("adminPassword", None)
    if password is not None:
        passwords.setdefault(ref.name, []).append(password)
    if exists and data is not None:
        raise _refusal(409, "PropertyChangeNotAllowed", "Changing property 'osProfile.customData' is not allowed.")
    if not exists and data is None:
        raise _refusal(400, "InvalidParameter", "a VM without custom data would never enrol")
    if data is not None:
        kept.setdefault(ref.name, []).append(data)


def _add_what_azure_adds(ref: ResourceRef, body: Body, number: int) -> None:
    properties = body["properties"]
    match ref.type:
        case ResourceType.PUBLIC_IP:
            properties.setdefault("ipAddress", f"198.18.0.{number % 250}")
            label = (properties.get("dnsSettings") or {}).get("domainNameLabel")
            if label:
                properties["dnsSettings"]["fqdn"] = f"{label}.{body['location']}.example.invalid"
        case ResourceType.VIRTUAL_MACHINE:
            properties["vmId"] = f"vm-{number}"
            properties.setdefault("osProfile", {}).setdefault("secrets", [])
        case ResourceType.VIRTUAL_NETWORK:
            for subnet in properties.get("subnets", []):
                subnet["properties"].setdefault("privateEndpointNetworkPolicies", "Disabled")
                subnet["properties"]["provisioningState"] = "Succeeded"
        case ResourceType.LOAD_BALANCER:
            for pool in properties.get("backendAddressPools", []):
                pool.setdefault("properties", {})["provisioningState"] = "Succeeded"
        case _:
            properties["resourceGuid"] = f"guid-{number}"


__all__ = ["SUBSCRIPTION", "FaultKind", "MemoryArm"]
