"""Requests on resource groups, and the generic listing of resources."""

from __future__ import annotations

import re
from typing import Any

from lab.arm.core import Core, Response
from lab.arm.errors import ArmError, malformed_json
from lab.arm.kinds.registry import KINDS, kind_of
from lab.arm.schema import BodyCheck, model_class
from lab.arm.state import DELETING, FAILED, SUCCEEDED, Group, Resource

_NAME = re.compile(r"^[-\w.()]{0,89}[-\w()]$")  # naming rules: resource groups, 1–90, not ending in a period
_TAG_FILTER = re.compile(r"^tagName eq '([^']+)'(?: and tagValue eq '([^']*)')?$", re.IGNORECASE)
_TYPE_FILTER = re.compile(r"^resourceType eq '([^']+)'$", re.IGNORECASE)
DEFAULT_PAGE = 1000
TYPE = "Microsoft.Resources/resourceGroups"
OPERATIONS = "Microsoft.Resources/subscriptions/resourceGroups"
MODULE = "azure.mgmt.resource.resources"


class Groups:
    def __init__(self, core: Core) -> None:
        self._core = core

    def put(self, name: str, body: Any) -> Response:
        """Synchronous, as on Azure: 201 for a new group, 200 for a changed or unchanged one."""
        core = self._core
        core.faults.strike_request("PUT", TYPE, name)
        if not _NAME.match(name):
            raise ArmError(400, "InvalidResourceGroupName", f"The provided resource group name '{name}' is invalid.")
        wish = BodyCheck("Microsoft.Resources").check(model_class(MODULE, "ResourceGroup"), body)
        old = core.state.groups.get(name.lower())
        if old is None:
            group = Group(core.subscription_id, name, wish["location"], wish.get("tags") or {}, wish.get("managedBy"))
            core.state.groups[name.lower()] = group
        else:
            group = core.writable_group(name)
            if group.location.lower() != wish["location"].lower():
                raise ArmError(
                    409,
                    "InvalidResourceGroupLocation",
                    f"Invalid resource group location '{wish['location']}'. The Resource group already exists in "
                    f"location '{group.location}'.",
                )
            group.tags = wish.get("tags") or {}
        core.save()
        core.emit("write", "PUT", f"{OPERATIONS}/write", group.id, succeeded=True, correlation=name)
        return Response(201 if old is None else 200, render(group))

    def get(self, name: str) -> Response:
        self._core.faults.strike_request("GET", TYPE, name)
        return Response(200, render(self._core.group(name)))

    def exists(self, name: str) -> Response:
        return Response(204 if name.lower() in self._core.state.groups else 404)

    def patch(self, name: str, body: Any) -> Response:
        group = self._core.writable_group(name)
        if not isinstance(body, dict):
            raise malformed_json("an object is required")
        wish = BodyCheck("Microsoft.Resources").check(model_class(MODULE, "ResourceGroupPatchable"), body)
        if "tags" in wish:
            group.tags = wish["tags"]
        self._core.save()
        return Response(200, render(group))

    def list_all(self, query: dict[str, str]) -> Response:
        groups = [g for g in self._core.state.groups.values() if _tags_match(g.tags, query.get("$filter"))]
        return self._page("/resourcegroups", [render(group) for group in groups], query)

    def delete(self, name: str, api_version: str) -> Response:
        """202, then everything in it goes, users before what they use. Missing: 404, as on Azure."""
        core = self._core
        core.faults.strike_request("DELETE", TYPE, name)
        group = core.group(name)
        if group.state == DELETING and group.operation is not None:
            return core.accepted(core.state.operations[group.operation], api_version, status=202, body=None)
        group.state = DELETING

        async def work() -> None:
            await self._empty(group)

        def settle(error: ArmError | None) -> None:
            if error is None:
                core.state.groups.pop(group.name.lower(), None)
            else:
                group.state = SUCCEEDED

        operation = core.start(
            verb="delete",
            method="DELETE",
            operation_name=f"{OPERATIONS}/delete",
            target=group,
            delay_s=core.timing.delete_s,
            fault=core.faults.for_operation("DELETE", TYPE, name),
            work=work,
            settle=settle,
        )
        return core.accepted(operation, api_version, status=202, body=None)

    async def _empty(self, group: Group) -> None:
        core = self._core
        await core.wait_for([r.operation for r in core.state.in_group(group.name) if r.operation is not None])
        for kind in KINDS:
            for resource in [r for r in core.state.in_group(group.name) if r.rid.type == kind.type]:
                if core.state.find(resource.id) is not resource:
                    continue  # went with its VM (delete option)
                self._refuse_if_used_outside(resource, group)
                resource.state = DELETING
                try:
                    await core.physical.remove(resource)
                finally:
                    resource.state = FAILED  # seen only where it is still there
                core.emit(
                    "delete", "DELETE", f"{kind.type}/delete", resource.id, succeeded=True, correlation=group.name
                )

    def _refuse_if_used_outside(self, resource: Resource, group: Group) -> None:
        """What is used from another group keeps this group: users inside it are gone already."""
        kind_of(resource.rid.type).refuse_if_used(resource, self._core.state)

    def resources(self, group: str | None, query: dict[str, str]) -> Response:
        """`resources.list` and `resources.list_by_resource_group`."""
        core = self._core
        if group is not None:
            core.group(group)
        wanted = query.get("$filter")
        by_type = _TYPE_FILTER.match(wanted) if wanted else None
        found = []
        for resource in core.state.resources.values():
            if group is not None and resource.rid.group.lower() != group.lower():
                continue
            if by_type is not None and resource.rid.type.lower() != by_type[1].lower():
                continue
            if by_type is None and not _tags_match(resource.wish.get("tags") or {}, wanted):
                continue
            found.append(_summary(resource, query.get("$expand", "")))
        path = "/resources" if group is None else f"/resourcegroups/{group}/resources"
        return self._page(path, found, query)

    def _page(self, path: str, found: list[dict[str, Any]], query: dict[str, str]) -> Response:
        top, start = query.get("$top", str(DEFAULT_PAGE)), query.get("$skiptoken", "0")
        if not top.isdecimal() or not start.isdecimal() or int(top) < 1:
            raise ArmError(400, "InvalidQueryParameter", f"$top={top!r} and $skiptoken={start!r} must be numbers.")
        end = int(start) + int(top)
        body: dict[str, Any] = {"value": found[int(start) : end]}
        if end < len(found):
            base = f"{self._core.base_url}/subscriptions/{self._core.subscription_id}{path}"
            rest = "".join(f"&{name}={value}" for name, value in query.items() if name in ("$filter", "$expand"))
            body["nextLink"] = f"{base}?api-version={query['api-version']}&$top={top}&$skiptoken={end}{rest}"
        return Response(200, body)


def render(group: Group) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "type": TYPE,
        "location": group.location,
        "tags": group.tags,
        "properties": {"provisioningState": group.state},
    }
    if group.managed_by is not None:
        body["managedBy"] = group.managed_by
    return body


def _summary(resource: Resource, expand: str) -> dict[str, Any]:
    rid = resource.rid
    name = "/".join(name for _, name in rid.path)
    body: dict[str, Any] = {"id": resource.id, "name": name, "type": rid.type, "location": resource.location}
    body |= {name: resource.wish[name] for name in ("tags", "sku", "zones") if name in resource.wish}
    if "provisioningState" in expand:
        body["provisioningState"] = resource.state
    if "createdTime" in expand:
        body["createdTime"] = resource.created_at
    return body


def _tags_match(tags: dict[str, str], wanted: str | None) -> bool:
    """Tag names are compared without case, values with it. Raises `ArmError` for a filter the lab does not know."""
    if not wanted:
        return True
    match = _TAG_FILTER.match(wanted)
    if match is None:
        raise ArmError(400, "InvalidFilterInQueryString", f"Invalid $filter '{wanted}' specified in the query string.")
    value = {name.lower(): value for name, value in tags.items()}.get(match[1].lower())
    return value is not None and (match[2] is None or match[2] == value)
