"""Managed disks: empty data disks made on their own, and the disks a VM makes for itself."""

from __future__ import annotations

import uuid
from typing import Any

from lab.arm.errors import ArmError, compute_parameter, not_modelled
from lab.arm.graph import referrers
from lab.arm.ids import ResourceId
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

MAX_SIZE_GB = 32767  # learn.microsoft.com: managed disk limits
OS_DISK_SIZE_GB = 30


class Disk(Kind):
    type = "Microsoft.Compute/disks"
    module = "azure.mgmt.compute"
    model = "Disk"
    etag = False
    created_status = updated_status = 202  # the SDK knows 200 and 202 only
    not_modelled = frozenset({"encryptionSettingsCollection", "diskAccessId", "purchasePlan", "maxShares"})

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        wish.setdefault("sku", {}).setdefault("name", "Premium_LRS")
        properties.setdefault("networkAccessPolicy", "AllowAll")
        properties.setdefault("publicNetworkAccess", "Enabled")
        if old is not None:
            properties.setdefault("diskSizeGB", old.properties["diskSizeGB"])

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        if "creationData" not in properties:
            raise compute_parameter("Required parameter 'disk.creationData' is missing (null).", "disk.creationData")
        option = properties["creationData"]["createOption"]
        if option != "Empty" and (old is None or old.properties["creationData"]["createOption"] != option):
            raise not_modelled(f"Disk createOption '{option}'", "creationData.createOption")
        size = properties.get("diskSizeGB")
        if size is None:
            raise compute_parameter("Required parameter 'disk.diskSizeGB' is missing (null).", "disk.diskSizeGB")
        if not 1 <= size <= MAX_SIZE_GB:
            raise compute_parameter(
                f"The value '{size}' of parameter 'disk.diskSizeGB' is out of range. The value must be between '1' and "
                f"'{MAX_SIZE_GB}', inclusive.",
                "disk.diskSizeGB",
            )
        if old is not None and size < old.properties["diskSizeGB"]:
            raise ArmError(
                409,
                "OperationNotAllowed",
                f"Disk size reduction is not supported. Current size is {old.properties['diskSizeGB']} GB, requested "
                f"size is {size} GB.",
            )
        if old is not None and sorted(wish.get("zones") or []) != sorted(old.wish.get("zones") or []):
            raise ArmError(409, "PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.", target="zones")

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("uniqueId", str(uuid.uuid4()))

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        properties = body["properties"]
        owner = vm_of(state, resource.id)
        properties["timeCreated"] = resource.created_at
        properties["uniqueId"] = resource.assigned["uniqueId"]
        properties["diskSizeBytes"] = properties["diskSizeGB"] * 2**30
        properties["diskState"] = "Unattached" if owner is None else "Attached"
        if owner is not None:
            body["managedBy"] = owner

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        owner = vm_of(state, resource.id)
        if owner is not None:
            raise ArmError(
                409, "OperationNotAllowed", f"Disk {resource.rid.name} is attached to VM {owner}.", target="disk"
            )


def vm_of(state: State, disk_id: str) -> str | None:
    """Id of the VM the disk is attached to."""
    return next((use.owner for use in referrers(state, disk_id) if use.property == "managedDisk"), None)


def disk_made_by_vm(
    rid: ResourceId, vm: Resource, size_gb: int, sku: str, image: dict[str, Any] | None, now: str
) -> Resource:
    """The disk resource that a VM's create brings along (OS disk from the image, or an empty data disk)."""
    creation = {"createOption": "FromImage"} if image is not None else {"createOption": "Empty"}
    properties: dict[str, Any] = {
        "creationData": creation,
        "diskSizeGB": size_gb,
        "networkAccessPolicy": "AllowAll",
        "publicNetworkAccess": "Enabled",
    }
    if image is not None:
        properties["osType"] = "Linux"
    wish: dict[str, Any] = {"location": vm.location, "sku": {"name": sku}, "properties": properties}
    for inherited in ("zones", "tags"):
        if vm.wish.get(inherited):
            wish[inherited] = vm.wish[inherited]
    return Resource(str(rid), wish, now, assigned={"uniqueId": str(uuid.uuid4())})
