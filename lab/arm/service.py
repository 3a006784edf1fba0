"""The ARM endpoint without a socket: one request in, one response out.

`ArmService.handle` knows the address space of ARM and nothing of HTTP connections or tokens (`lab.arm.server` does). It
is single-threaded by asyncio: between two awaits a request sees and changes a consistent state.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from lab.arm.availability import Availability, covers
from lab.arm.core import Core, Response, Timing
from lab.arm.errors import ArmError, malformed_json, not_modelled
from lab.arm.events import EventSink, drop
from lab.arm.extensions import Extensions, is_extension
from lab.arm.faults import Faults
from lab.arm.groups import Groups
from lab.arm.ids import ResourceId, parse_resource_id
from lab.arm.machines import Machines
from lab.arm.provider import Provider
from lab.arm.resources import Resources
from lab.arm.state import State, StateFile

MAX_BODY_BYTES = 4 * 1024 * 1024  # learn.microsoft.com: Azure Resource Manager request limits
_API_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}(-preview)?$")


class ArmService:
    def __init__(
        self,
        *,
        subscription_id: str,
        provider: Provider,
        state_file: Path | None = None,
        timing: Timing | None = None,
        emit: EventSink = drop,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`state_file` None: nothing survives. `emit` is called for every settled change of a resource."""
        self._core = Core(
            subscription_id=subscription_id,
            provider=provider,
            file=StateFile(state_file),
            timing=timing or Timing(),
            emit=emit,
            sleep=sleep,
        )
        self._groups = Groups(self._core)
        self._resources = Resources(self._core)
        self._machines = Machines(self._core, self._resources)
        self._extensions = Extensions(self._core)
        self._availability = Availability(self._core, self._resources)

    @property
    def faults(self) -> Faults:
        return self._core.faults

    @property
    def state(self) -> State:
        """For reading (status displays, metadata service); writing goes through `handle`."""
        return self._core.state

    def listen_on(self, base_url: str) -> None:
        """Tell where clients reach this service: operation addresses are absolute."""
        self._core.base_url = base_url

    async def idle(self) -> None:
        """Returns when no long-running operation is under way."""
        await self._core.idle()

    async def restore(self) -> None:
        """After a restart of the lab: apply networks, groups, interfaces and balancers of the loaded state again."""
        await self._core.physical.reapply_all()

    async def close(self) -> None:
        await self._core.close()

    async def vanish(self, resource_id: str) -> None:
        """Delete a resource out of band, as somebody with another tool would; for tests. Raises `ArmError` 404."""
        await self._resources.vanish(parse_resource_id(resource_id))

    # --- one request -----------------------------------------------------------------------------------------------
    async def handle(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Every outcome is a `Response`; header and query names are matched without case."""
        low_headers = {name.lower(): value for name, value in headers.items()}
        low_query = {name.lower(): value for name, value in query.items()}
        try:
            answer = await self._route(method, path, low_query, low_headers, body)
        except ArmError as error:
            answer = Response(error.status, {"error": error.error_object()}, error.headers)
        request_id = str(uuid.uuid4())
        common = {"x-ms-request-id": request_id, "x-ms-correlation-request-id": request_id}
        return Response(answer.status, answer.body, {**common, **answer.headers})

    async def _route(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Response:
        version = query.get("api-version", "")
        if not version:
            raise ArmError(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        if not _API_VERSION.match(version):
            raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        parts = [part for part in path.split("/") if part]
        words = [part.lower() for part in parts]
        if len(parts) < 2 or words[0] != "subscriptions":
            raise _no_route(method, path)
        if words[1] != self._core.subscription_id.lower():
            raise ArmError(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")
        match words[2:]:
            case []:
                return Response(200, self._subscription())
            case ["resources"] if method == "GET":
                return self._groups.resources(None, query)
            case ["resourcegroups"] if method == "GET":
                return self._groups.list_all(query)
            case ["resourcegroups", _]:
                return self._group(method, parts[3], version, body)
            case ["resourcegroups", _, "resources"] if method == "GET":
                return self._groups.resources(parts[3], query)
            case ["operationresults", operation] if method == "GET":
                return self._core.operation_result(operation, version)
            case ["providers", _, "locations", _, "operations", operation] if method == "GET":
                return self._core.operation_status(operation)
            case ["providers", _, "locations", _, "operationresults", operation] if method == "GET":
                return self._core.operation_result(operation, version)
            case ["providers", _, _] if method == "GET":
                return self._resources.list_type(f"{parts[3]}/{parts[4]}", None)
            case ["resourcegroups", _, "providers", _, _] if method == "GET":
                return self._resources.list_type(f"{parts[5]}/{parts[6]}", parts[3])
            case ["resourcegroups", _, "providers", _, _, _]:
                rid = ResourceId(self._core.subscription_id, parts[3], parts[5], ((parts[6], parts[7]),))
                return await self._resource(method, rid, query, headers, body)
            case ["resourcegroups", _, "providers", _, _, _, last]:
                rid = ResourceId(self._core.subscription_id, parts[3], parts[5], ((parts[6], parts[7]),))
                return await self._below(method, rid, last, parts[8], query, body)
            case [*_, "providers", "microsoft.resourcehealth", "availabilitystatuses", "current"] if method == "GET":
                return await self._health(method, path, parts)
            case ["resourcegroups", _, "providers", _, _, _, _, _]:
                pairs = ((parts[6], parts[7]), (parts[8], parts[9]))
                rid = ResourceId(self._core.subscription_id, parts[3], parts[5], pairs)
                if is_extension(rid):
                    return await self._extension(method, rid, version, headers, body)
                return self._child(method, rid, version, headers, body)
        raise _no_route(method, path)

    def _group(self, method: str, name: str, version: str, body: bytes) -> Response:
        match method:
            case "GET":
                return self._groups.get(name)
            case "HEAD":
                return self._groups.exists(name)
            case "PUT":
                return self._groups.put(name, _json(body))
            case "PATCH":
                return self._groups.patch(name, _json(body))
            case "DELETE":
                return self._groups.delete(name, version)
        raise _no_route(method, name)

    async def _resource(
        self, method: str, rid: ResourceId, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Response:
        version = query["api-version"]
        match method:
            case "GET" if "instanceview" in query.get("$expand", "").lower():
                return await self._machines.get_expanded(rid)
            case "GET" | "HEAD":
                answer = self._resources.get(rid)
                return answer if method == "GET" else Response(204)
            case "PUT":
                return self._resources.put(rid, _json(body), headers, version)
            case "PATCH":
                return self._resources.patch(rid, _json(body))
            case "DELETE":
                return self._resources.delete(rid, headers, version)
        raise _no_route(method, str(rid))

    async def _below(
        self, method: str, rid: ResourceId, word: str, spelt: str, query: dict[str, str], body: bytes
    ) -> Response:
        machine = rid.type.lower() == "microsoft.compute/virtualmachines"
        if method == "GET" and machine and word == "instanceview":
            return await self._machines.instance_view(rid)
        if method == "GET" and machine and word == "extensions":
            return self._extensions.list_of(self._resources.find(rid).rid)
        if method == "GET":
            return self._resources.list_children(rid, spelt)
        if method == "POST" and machine:
            return await self._machines.act(rid, spelt, query, _json(body) if body else None, query["api-version"])
        raise _no_route(method, f"{rid}/{spelt}")

    async def _health(self, method: str, path: str, parts: list[str]) -> Response:
        """Resource Health extends the id of the resource it is about."""
        if len(parts) == 12:
            rid = ResourceId(self._core.subscription_id, parts[3], parts[5], ((parts[6], parts[7]),))
            if covers(rid):
                return await self._availability.current(rid)
        raise _no_route(method, path)

    async def _extension(
        self, method: str, rid: ResourceId, version: str, headers: dict[str, str], body: bytes
    ) -> Response:
        match method:
            case "GET":
                return self._extensions.get(rid)
            case "PUT":
                return await self._extensions.put(rid, _json(body), headers, version)
        raise not_modelled(f"{method} of an extension", "extensions")

    def _child(self, method: str, rid: ResourceId, version: str, headers: dict[str, str], body: bytes) -> Response:
        match method:
            case "GET":
                return self._resources.get(rid)
            case "PUT":
                return self._resources.put_child(rid, _json(body), headers, version)
            case "DELETE":
                return self._resources.delete_child(rid, headers, version)
        raise _no_route(method, str(rid))

    def _subscription(self) -> dict[str, Any]:
        id_text = self._core.subscription_id
        return {
            "id": f"/subscriptions/{id_text}",
            "subscriptionId": id_text,
            "displayName": "Mirrorplane lab",
            "state": "Enabled",
        }


def _json(body: bytes) -> Any:
    if len(body) > MAX_BODY_BYTES:
        raise ArmError(413, "RequestContentTooLarge", f"The request body exceeds {MAX_BODY_BYTES} bytes.")
    try:
        return json.loads(body)
    except ValueError as error:
        raise malformed_json(f"Unexpected character encountered while parsing: {error}") from error


def _no_route(method: str, place: str) -> ArmError:
    return ArmError(404, "InvalidRequestUri", f"The lab has no {method} for '{place}'.")
