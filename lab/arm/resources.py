"""Requests on resources and their child elements: GET, LIST, PUT, PATCH (tags), DELETE."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from lab.arm.core import Core, Response, utc_now
from lab.arm.errors import ArmError, child_not_found, not_modelled, resource_not_found
from lab.arm.graph import children
from lab.arm.ids import ResourceId, same
from lab.arm.kinds.base import Kind
from lab.arm.kinds.registry import kind_of
from lab.arm.schema import BodyCheck, model_class
from lab.arm.state import CREATING, DELETING, FAILED, SUCCEEDED, UPDATING, Operation, Resource

# learn.microsoft.com: naming rules for Azure resources (Microsoft.Network and Microsoft.Compute; the common part).
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$")
_VM_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$")


class Resources:
    def __init__(self, core: Core) -> None:
        self._core = core

    # --- reading ---------------------------------------------------------------------------------------------------
    def get(self, rid: ResourceId) -> Response:
        kind = kind_of(rid.parent.type)
        self._core.faults.strike_request("GET", kind.type, rid.parent.name)
        resource = self.find(rid)
        body = kind.render(resource, self._core.state)
        if len(rid.path) == 2:
            body = _child_of(kind, body, rid)
        return Response(200, body, _etag_header(body))

    def find(self, rid: ResourceId) -> Resource:
        """The (parent) resource. Raises `ArmError` 404."""
        self._core.group(rid.group)
        resource = self._core.state.find(str(rid.parent))
        if resource is None:
            raise resource_not_found(kind_of(rid.parent.type).type, rid.parent.name, rid.group)
        return resource

    def list_type(self, type_name: str, group: str | None) -> Response:
        kind = kind_of(type_name)
        self._core.faults.strike_request("GET", kind.type, "")
        if group is not None:
            self._core.group(group)
        found = [
            kind.render(resource, self._core.state)
            for resource in self._core.state.of_type(kind.type)
            if group is None or same(resource.rid.group, group)
        ]
        return Response(200, {"value": found})

    def list_children(self, rid: ResourceId, array: str) -> Response:
        kind = kind_of(rid.type)
        name = _array_name(kind, array)
        return Response(200, {"value": kind.render(self.find(rid), self._core.state)["properties"][name]})

    # --- writing ---------------------------------------------------------------------------------------------------
    def put(self, rid: ResourceId, body: Any, headers: Mapping[str, str], api_version: str) -> Response:
        kind = kind_of(rid.type)
        self._core.faults.strike_request("PUT", kind.type, rid.name)
        group = self._core.writable_group(rid.group)
        pattern = _VM_NAME if kind.type.endswith("/virtualMachines") else _NAME
        if not pattern.match(rid.name):
            raise ArmError(400, "InvalidResourceName", f"Resource name {rid.name} is invalid.")
        namespace, type_name = kind.type.split("/")
        rid = ResourceId(rid.subscription, group.name, namespace, ((type_name, rid.name),))
        wish = BodyCheck(namespace).check(model_class(kind.module, kind.model), body)
        resource, operation = self._write(kind, rid, wish, headers)
        return self._answer(kind, resource, operation, api_version, new=resource.generation == 1)

    def put_child(self, rid: ResourceId, body: Any, headers: Mapping[str, str], api_version: str) -> Response:
        """A child at its own address is a PUT of the parent with that child replaced or added."""
        kind = kind_of(rid.parent.type)
        self._core.faults.strike_request("PUT", kind.type, rid.parent.name)
        self._core.writable_group(rid.group)
        array = _array_name(kind, rid.path[1][0])
        model = kind.child_models.get(array)
        if model is None:
            raise ArmError(405, "OperationNotAllowed", f"{kind.type}/{array} is written with its parent.")
        parent = self.find(rid)
        child = BodyCheck("Microsoft.Network").check(model_class(kind.module, model), body)
        child["name"] = rid.name
        wish = copy.deepcopy(parent.wish)
        before = children(wish, array)
        new = not any(same(other["name"], rid.name) for other in before)
        wish["properties"][array] = [c for c in before if not same(c["name"], rid.name)] + [child]
        if not new:  # keep the place in the list, so that the same child again is the same wish
            order = [c["name"].lower() for c in before]
            wish["properties"][array].sort(key=lambda c: order.index(c["name"].lower()))
        resource, operation = self._write(kind, parent.rid, wish, headers)
        return self._answer(kind, resource, operation, api_version, new=new, child=rid)

    def delete_child(self, rid: ResourceId, headers: Mapping[str, str], api_version: str) -> Response:
        kind = kind_of(rid.parent.type)
        self._core.faults.strike_request("DELETE", kind.type, rid.parent.name)
        array = _array_name(kind, rid.path[1][0])
        if array not in kind.child_models:
            raise ArmError(405, "OperationNotAllowed", f"{kind.type}/{array} is deleted with its parent.")
        parent = self.find(rid)
        wish = copy.deepcopy(parent.wish)
        kept = [child for child in children(wish, array) if not same(child["name"], rid.name)]
        if len(kept) == len(children(wish, array)):
            return Response(204)
        wish["properties"][array] = kept
        _resource, operation = self._write(kind, parent.rid, wish, headers)
        if operation is None:
            return Response(204)
        return self._core.accepted(operation, api_version, status=202, body=None)

    def patch(self, rid: ResourceId, body: Any) -> Response:
        """Tags only (`update_tags`, and `update` of VMs and disks); done at once."""
        kind = kind_of(rid.type)
        self._core.faults.strike_request("PATCH", kind.type, rid.name)
        self._core.writable_group(rid.group)
        resource = self.find(rid)
        if not isinstance(body, dict) or set(body) - {"tags"}:
            raise not_modelled("PATCH of anything but tags", "tags")
        self._refuse_if_busy(kind, resource)
        tags = BodyCheck(rid.namespace).check(model_class(kind.module, kind.model), body | {"location": "x"})["tags"]
        resource.wish["tags"] = tags
        resource.generation += 1
        self._core.save()
        self._core.emit("write", "PATCH", f"{kind.type}/write", resource.id, succeeded=True, correlation=resource.id)
        return Response(200, kind.render(resource, self._core.state))

    def _write(
        self, kind: Kind, rid: ResourceId, wish: dict[str, Any], headers: Mapping[str, str]
    ) -> tuple[Resource, Operation | None]:
        """Check everything, then change the state and start the operation; None where there is nothing to do."""
        core, now = self._core, utc_now()
        old = core.state.find(str(rid))
        check_preconditions(kind, old, headers, core)
        if old is not None:
            self._refuse_if_busy(kind, old)
            rid = old.rid
        kind.check(rid, wish, old, core.state)
        if old is not None and old.state == SUCCEEDED and kind.bare(wish) == old.wish:
            return old, None
        before = copy.deepcopy(old)
        resource = old if old is not None else Resource(str(rid), wish, now)
        resource.wish = wish
        kind.assign(resource, core.state)
        resource.error = None
        resource.generation += 1
        compute = kind.module.endswith("compute")
        resource.state = CREATING if compute and resource.generation == 1 else UPDATING
        core.state.resources[rid.key] = resource

        async def work() -> None:
            await core.physical.apply(resource, before, now)

        operation = core.start(
            verb="write",
            method="PUT",
            operation_name=f"{kind.type}/write",
            target=resource,
            delay_s=core.timing.machine_s if kind.type.endswith("/virtualMachines") else core.timing.write_s,
            fault=core.faults.for_operation("PUT", kind.type, rid.name),
            work=work,
            settle=lambda error: settle(resource, error),
        )
        return resource, operation

    def _answer(
        self,
        kind: Kind,
        resource: Resource,
        operation: Operation | None,
        api_version: str,
        *,
        new: bool,
        child: ResourceId | None = None,
    ) -> Response:
        body = kind.render(resource, self._core.state)
        if child is not None:
            body = _child_of(kind, body, child)
        if operation is None:
            return Response(200, body, _etag_header(body))
        status = kind.created_status if new else kind.updated_status
        return self._core.accepted(operation, api_version, status=status, body=body)

    # --- deleting --------------------------------------------------------------------------------------------------
    def delete(self, rid: ResourceId, headers: Mapping[str, str], api_version: str) -> Response:
        core = self._core
        kind = kind_of(rid.type)
        core.faults.strike_request("DELETE", kind.type, rid.name)
        core.writable_group(rid.group)
        resource = core.state.find(str(rid))
        check_preconditions(kind, resource, headers, core)
        if resource is None:
            return Response(204)
        self._refuse_if_busy(kind, resource)
        kind.refuse_if_used(resource, core.state)
        resource.state = DELETING

        async def work() -> None:
            await core.physical.remove(resource)

        operation = core.start(
            verb="delete",
            method="DELETE",
            operation_name=f"{kind.type}/delete",
            target=resource,
            delay_s=core.timing.delete_s,
            fault=core.faults.for_operation("DELETE", kind.type, rid.name),
            work=work,
            settle=lambda error: settle(resource, error),
        )
        return core.accepted(operation, api_version, status=kind.deleted_status, body=None)

    async def vanish(self, rid: ResourceId) -> None:
        """Out-of-band delete, for tests: gone at once, physically too, whoever uses it; with its event."""
        resource = self.find(rid)
        await self._core.wait_for([resource.operation] if resource.operation else [])
        await self._core.physical.remove(resource)
        self._core.save()
        kind = kind_of(rid.type)
        self._core.emit("delete", "DELETE", f"{kind.type}/delete", resource.id, succeeded=True, correlation=resource.id)

    def _refuse_if_busy(self, kind: Kind, resource: Resource) -> None:
        if resource.operation is not None:
            raise busy(kind, resource, self._core)


def settle(resource: Resource, error: ArmError | None) -> None:
    resource.state = SUCCEEDED if error is None else FAILED
    resource.error = None if error is None else error.error_object()


def busy(kind: Kind, resource: Resource, core: Core) -> ArmError:
    """A second write while one is under way; network and compute say it differently."""
    if kind.module.endswith("network"):
        return ArmError(
            409,
            "AnotherOperationInProgress",
            "Another operation on this or dependent resource is in progress. To retrieve status of the operation use "
            f"uri: {core.base_url}/subscriptions/{core.subscription_id}/providers/Microsoft.Network/locations/"
            f"{resource.location}/operations/{resource.operation}?api-version=2026-03-01.",
        )
    return ArmError(
        409,
        "Conflict",
        "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
        "https://aka.ms/activitylog to get more details on the conflicting requests.",
    )


def check_preconditions(kind: Kind, resource: Resource | None, headers: Mapping[str, str], core: Core) -> None:
    """If-Match and If-None-Match (RFC 9110 §13); the error is Azure's (cloud-provider-azure#9729)."""
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    if wanted is None and unwanted is None:
        return
    current = kind.render(resource, core.state).get("etag") if resource is not None else None
    if unwanted == "*" and resource is not None:
        raise _mismatch(f"Resource {resource.id} exists although the if-none-match header forbids it.")
    if wanted is None or (wanted == "*" and resource is not None):
        return
    if current is None or wanted.strip() != current:
        place = resource.id if resource is not None else "a resource that does not exist"
        raise _mismatch(f"Etag provided in if-match header {wanted} does not match etag {current} of resource {place}.")


def _mismatch(text: str) -> ArmError:
    return ArmError(
        412, "PreconditionFailed", "Precondition failed.", details=(("PreconditionFailedEtagMismatch", text),)
    )


def _array_name(kind: Kind, segment: str) -> str:
    for array in kind.children:
        if same(array, segment):
            return array
    raise ArmError(
        404, "InvalidResourceType", f"The resource type '{segment}' could not be found below '{kind.type}' in the lab."
    )


def _child_of(kind: Kind, body: dict[str, Any], rid: ResourceId) -> dict[str, Any]:
    for child in body["properties"][_array_name(kind, rid.path[1][0])]:
        if same(child["name"], rid.name):
            found: dict[str, Any] = child
            return found
    raise child_not_found(str(rid))


def _etag_header(body: dict[str, Any]) -> dict[str, str]:
    return {"ETag": body["etag"]} if "etag" in body else {}
