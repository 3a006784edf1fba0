"""The instance metadata service: who am I, and what is Azure about to do to me.

Copied from learn.microsoft.com, "Azure Instance Metadata Service" (2021-02-01) and "Azure Metadata Service: Scheduled
Events for Linux VMs" (2020-07-01). The fabric serves the application inside each network's router at 169.254.169.254; a
caller is known by its source address. Scheduled events are an in-memory document that a test (or the lab's maintenance
command) fills; an approval moves the event to `Started` and tells whoever scheduled it. A VM sees its own events only,
as a standalone VM does. Not modelled: tokens, attested data, load-balancer metadata, the delay of the first
call.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from lab.arm.definitions import machine
from lab.arm.errors import MissingResource
from lab.arm.graph import children
from lab.arm.provider import VmDefinition
from lab.arm.state import State

INSTANCE_VERSIONS = ("2021-02-01", "2021-12-13", "2023-07-01")
EVENTS_VERSIONS = ("2020-07-01", "2019-08-01")
EVENT_TYPES = ("Freeze", "Reboot", "Redeploy", "Preempt", "Terminate")

Resolve = Callable[[str], VmDefinition | None]


def find_machine(state: State, vnet_id: str, address: str) -> VmDefinition | None:
    """The VM that has a private address in a network; None while it is half made or gone."""
    prefix = vnet_id.lower() + "/"
    for vm in state.of_type("Microsoft.Compute/virtualMachines"):
        for reference in vm.properties["networkProfile"]["networkInterfaces"]:
            nic = state.find(reference["id"])
            if nic is None:
                continue
            for config in children(nic.wish, "ipConfigurations"):
                here = config["properties"]["subnet"]["id"].lower().startswith(prefix)
                if here and nic.assigned["addresses"].get(config["name"]) == address:
                    try:
                        return machine(vm, state)
                    except (MissingResource, KeyError):  # its disks are not there yet
                        return None
    return None


# --- scheduled events -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """`not_before` is an HTTP date, or "" for an event that has started. Durations: -1 unknown, 0 no impact."""

    type: str
    vm_name: str
    not_before: str
    duration_s: int = -1
    source: str = "Platform"  # or "User"
    description: str = ""
    status: str = "Scheduled"
    id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())

    def as_json(self) -> dict[str, Any]:
        return {
            "EventId": self.id,
            "EventStatus": self.status,
            "EventType": self.type,
            "ResourceType": "VirtualMachine",
            "Resources": [self.vm_name],
            "NotBefore": self.not_before,
            "Description": self.description,
            "EventSource": self.source,
            "DurationInSeconds": self.duration_s,
        }


class ScheduledEvents:
    """All events of the lab. Keyed by VM resource id, so that equal names in two groups do not mix."""

    def __init__(self) -> None:
        self._events: dict[str, list[ScheduledEvent]] = {}
        self._incarnation: dict[str, int] = {}
        self._approved: dict[str, Callable[[ScheduledEvent], None]] = {}

    def schedule(
        self, vm_id: str, event: ScheduledEvent, on_approved: Callable[[ScheduledEvent], None] | None = None
    ) -> None:
        if event.type not in EVENT_TYPES:
            raise ValueError(f"event type {event.type!r} is not one of {EVENT_TYPES}")
        self._events.setdefault(vm_id.lower(), []).append(event)
        if on_approved is not None:
            self._approved[event.id] = on_approved
        self._changed(vm_id)

    def start(self, vm_id: str, event_id: str) -> None:
        """The platform begins (approved or not): status Started, NotBefore empty. Raises KeyError for an unknown id."""
        events = self._events.get(vm_id.lower(), [])
        for index, event in enumerate(events):
            if event.id == event_id:
                if event.status == "Scheduled":
                    events[index] = replace(event, status="Started", not_before="")
                    self._changed(vm_id)
                return
        raise KeyError(event_id)

    def finish(self, vm_id: str, event_id: str) -> None:
        """Over or cancelled: it disappears (there is no Completed)."""
        key = vm_id.lower()
        self._events[key] = [event for event in self._events.get(key, []) if event.id != event_id]
        self._approved.pop(event_id, None)
        self._changed(vm_id)

    def approve(self, vm_id: str, event_ids: list[str]) -> None:
        """StartRequests of the guest; approving twice is fine. Raises KeyError for an unknown id, changing nothing."""
        known = {event.id: event for event in self._events.get(vm_id.lower(), [])}
        wanted = [known[event_id] for event_id in event_ids]
        for event in wanted:
            self.start(vm_id, event.id)
            told = self._approved.pop(event.id, None)
            if told is not None:
                told(event)

    def document(self, vm_id: str) -> dict[str, Any]:
        return {
            "DocumentIncarnation": self._incarnation.get(vm_id.lower(), 1),
            "Events": [event.as_json() for event in self._events.get(vm_id.lower(), [])],
        }

    def _changed(self, vm_id: str) -> None:
        self._incarnation[vm_id.lower()] = self._incarnation.get(vm_id.lower(), 1) + 1


# --- instance document ----------------------------------------------------------------------------
def instance_document(vm: VmDefinition) -> dict[str, Any]:
    publisher, offer, sku, version = vm.image.split(":")
    keys = vm.body["properties"]["osProfile"]["linuxConfiguration"].get("ssh", {}).get("publicKeys", [])
    return {
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "customData": "",  # Azure stopped giving it out here
            "location": vm.location,
            "name": vm.name,
            "offer": offer,
            "osProfile": {
                "adminUsername": vm.admin_user,
                "computerName": vm.computer_name,
                "disablePasswordAuthentication": "true",
            },
            "osType": "Linux",
            "placementGroupId": "",
            "plan": {"name": "", "product": "", "publisher": ""},
            "platformFaultDomain": "0",
            "platformUpdateDomain": "0",
            "provider": "Microsoft.Compute",
            "publicKeys": [{"keyData": key.get("keyData", ""), "path": key.get("path", "")} for key in keys],
            "publisher": publisher,
            "resourceGroupName": vm.resource_group,
            "resourceId": vm.id,
            "sku": sku,
            "storageProfile": {
                "osDisk": {"name": vm.os_disk.name, "diskSizeGB": str(vm.os_disk.size_gb), "osType": "Linux"},
                "dataDisks": [
                    {"lun": str(data.lun), "name": data.disk.name, "diskSizeGB": str(data.disk.size_gb)}
                    for data in vm.data_disks
                ],
                "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": version, "id": ""},
            },
            "subscriptionId": vm.subscription_id,
            "tags": ";".join(f"{name}:{value}" for name, value in vm.tags.items()),
            "tagsList": [{"name": name, "value": value} for name, value in vm.tags.items()],
            "version": version,
            "vmId": vm.uuid,
            "vmScaleSetName": "",
            "vmSize": vm.size,
            "zone": vm.zone or "",
        },
        "network": {
            "interface": [
                {
                    "ipv4": {
                        # The public address of a Standard SKU is not shown here (it is in load-balancer metadata).
                        "ipAddress": [{"privateIpAddress": nic.private_address, "publicIpAddress": ""}],
                        "subnet": [
                            {
                                "address": nic.subnet_prefix.split("/")[0],
                                "prefix": nic.subnet_prefix.split("/")[1],
                            }
                        ],
                    },
                    "ipv6": {"ipAddress": []},
                    "macAddress": nic.mac.replace(":", "").upper(),
                }
                for nic in vm.nics
            ]
        },
    }


class MetadataService:
    def __init__(self, resolve: Resolve, events: ScheduledEvents) -> None:
        """`resolve`: the VM behind a source address, as the fabric (which owns the sockets) knows it."""
        self._resolve = resolve
        self._events = events

    def app(self) -> web.Application:
        application = web.Application(client_max_size=64 * 1024)
        application.router.add_get("/metadata/instance", self._instance)
        application.router.add_get("/metadata/instance/{path:.*}", self._instance)
        application.router.add_get("/metadata/scheduledevents", self._list_events)
        application.router.add_post("/metadata/scheduledevents", self._approve)
        return application

    def _caller(self, request: web.Request, versions: tuple[str, ...]) -> VmDefinition:
        """Raises the HTTP error of a request that is not acceptable."""
        if request.headers.get("Metadata", "").lower() != "true":
            raise _bad("Bad request. Required metadata header not specified")
        if "X-Forwarded-For" in request.headers:
            raise _bad("Bad request. Request may not contain X-Forwarded-For header")
        if request.query.get("api-version") not in versions:
            raise _bad("Bad request. api-version is invalid or was not specified in the request.", list(versions))
        vm = self._resolve(request.remote or "")
        if vm is None:
            raise web.HTTPNotFound(text=json.dumps({"error": "Not found"}), content_type="application/json")
        return vm

    async def _instance(self, request: web.Request) -> web.Response:
        found: Any = instance_document(self._caller(request, INSTANCE_VERSIONS))
        for part in filter(None, request.match_info.get("path", "").split("/")):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise web.HTTPNotFound(text=json.dumps({"error": "Not found"}), content_type="application/json")
        if request.query.get("format") != "text":
            return web.json_response(found)
        if isinstance(found, dict | list):
            names = found if isinstance(found, dict) else range(len(found))
            return web.Response(text="\n".join(str(name) for name in names))
        return web.Response(text=str(found))

    async def _list_events(self, request: web.Request) -> web.Response:
        return web.json_response(self._events.document(self._caller(request, EVENTS_VERSIONS).id))

    async def _approve(self, request: web.Request) -> web.Response:
        vm = self._caller(request, EVENTS_VERSIONS)
        try:
            wanted = [str(start["EventId"]) for start in (await request.json())["StartRequests"]]
            self._events.approve(vm.id, wanted)
        except (ValueError, KeyError, TypeError) as error:
            raise _bad("Bad request. The body must be {'StartRequests': [{'EventId': …}]} with known ids") from error
        return web.Response(status=200)


def _bad(message: str, versions: list[str] | None = None) -> web.HTTPBadRequest:
    body: dict[str, Any] = {"error": message}
    if versions is not None:
        body["newest-versions"] = versions
    return web.HTTPBadRequest(text=json.dumps(body), content_type="application/json")
