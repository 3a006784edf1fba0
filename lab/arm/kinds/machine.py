"""Virtual machines: what may be asked for, what may be changed afterwards, what is shown.

A VM's body is fixed at creation but for tags and delete options; a changed property is refused as Azure does
(`PropertyChangeNotAllowed`), also where Azure would resize or attach a disk (docs/lab-arm.md lists this). Custom data
and passwords never leave: they are kept apart and are not part of any answer, as on Azure.
"""

from __future__ import annotations

import base64
import binascii
import copy
import re
import uuid
from typing import Any, ClassVar

from lab.arm.errors import ArmError, compute_parameter, not_modelled
from lab.arm.graph import Reference
from lab.arm.ids import ResourceId, parse_resource_id, same
from lab.arm.kinds import windows_profile
from lab.arm.kinds.base import Kind
from lab.arm.kinds.disk import OS_DISK_SIZE_GB
from lab.arm.kinds.disk import vm_of as vm_of_disk
from lab.arm.kinds.interface import vm_of as vm_of_nic
from lab.arm.state import Resource, State

MAX_CUSTOM_DATA_CHARS = 87380  # 65,535 bytes in base64: Azure's error text names this figure
_COMPUTER_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?$")
_SIZE = re.compile(r"^(Standard|Basic)_[A-Z]+[0-9]+[A-Za-z0-9_-]*$")
_SECRETS = ("customData", "adminPassword")
# Leaves and branches that a PUT may change on an existing VM.
_CHANGEABLE = re.compile(r"(^tags|\.deleteOption$|\.detachOption$|^identity|diagnosticsProfile|\.caching$)")


class VirtualMachine(Kind):
    type = "Microsoft.Compute/virtualMachines"
    module = "azure.mgmt.compute"
    model = "VirtualMachine"
    reference_types: ClassVar[dict[str, str]] = {
        "networkInterfaces": "Microsoft.Network/networkInterfaces",
        "managedDisk": "Microsoft.Compute/disks",
        "availabilitySet": "Microsoft.Compute/availabilitySets",
        "proximityPlacementGroup": "Microsoft.Compute/proximityPlacementGroups",
    }
    not_modelled = frozenset(
        {
            "virtualMachineScaleSet",
            "host",
            "hostGroup",
            "networkInterfaceConfigurations",
            "vhd",
            "encryptionSettings",
            "diffDiskSettings",
            "secrets",
            "applicationProfile",
            "capacityReservation",
            "userData",
        }
    )

    def reduce_references(self, wish: dict[str, Any]) -> None:
        """References of a VM carry settings of their own (primary, deleteOption, storage type): nothing to reduce."""

    # --- completing ------------------------------------------------------------------------------------------------
    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        if old is not None:
            wish["properties"] = properties = _overlay(old.properties, properties)
            for name in ("zones", "identity", "plan"):
                if name in old.wish:
                    wish.setdefault(name, copy.deepcopy(old.wish[name]))
        storage = properties.setdefault("storageProfile", {})
        disk = storage.setdefault("osDisk", {"createOption": "FromImage"})
        windows = windows_profile.is_windows(properties)
        disk.setdefault("osType", "Windows" if windows else "Linux")
        disk.setdefault("caching", "ReadWrite")
        disk.setdefault("deleteOption", "Detach")
        disk.setdefault("diskSizeGB", OS_DISK_SIZE_GB)
        disk.setdefault("name", f"{rid.name}_OsDisk_1_{uuid.uuid4().hex}")
        disk.setdefault("managedDisk", {}).setdefault("storageAccountType", "Premium_LRS")
        for data in storage.setdefault("dataDisks", []):
            data.setdefault("deleteOption", "Detach")
            data.setdefault("caching", "None")
            attached = (data.get("managedDisk") or {}).get("id")
            if attached:
                data["name"] = parse_resource_id(attached).name
            else:
                data.setdefault("name", f"{rid.name}_disk{data['lun']}_{uuid.uuid4().hex}")
        nics = (properties.get("networkProfile") or {}).get("networkInterfaces") or []
        for nic in nics:
            nic.setdefault("properties", {}).setdefault("primary", len(nics) == 1)
            nic["properties"].setdefault("deleteOption", "Detach")
        os_profile = properties.get("osProfile") or {}
        os_profile.setdefault("computerName", rid.name)
        os_profile.setdefault("allowExtensionOperations", True)
        if windows:
            windows_profile.complete(os_profile)
            return
        linux = os_profile.setdefault("linuxConfiguration", {})
        linux.setdefault("disablePasswordAuthentication", "adminPassword" not in os_profile)
        linux.setdefault("provisionVMAgent", True)

    # --- checking --------------------------------------------------------------------------------------------------
    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        for part in ("hardwareProfile", "storageProfile", "osProfile", "networkProfile"):
            if not properties.get(part):
                raise compute_parameter(f"Required parameter '{part}' is missing (null).", part)
        if not (properties["hardwareProfile"] or {}).get("vmSize"):
            raise compute_parameter("Required parameter 'vmSize' is missing (null).", "vmSize")
        size = properties["hardwareProfile"]["vmSize"]
        if not _SIZE.match(size):
            raise compute_parameter(f"The value {size} provided for the VM size is not valid.", "vmSize")
        if len(wish.get("zones") or []) > 1:
            raise ArmError(400, "BadRequest", "A virtual machine can be in one zone only.", target="zones")
        if old is not None:
            self._check_changes(wish, old)
        self._check_storage(rid, properties["storageProfile"], state)
        self._check_zone(wish, state)
        if windows_profile.is_windows(properties):
            windows_profile.check(properties, new=old is None)
        self._check_os(properties["osProfile"])
        self._check_interfaces(rid, properties["networkProfile"], state)

    @staticmethod
    def _check_storage(rid: ResourceId, storage: dict[str, Any], state: State) -> None:
        image = storage.get("imageReference") or {}
        missing = [part for part in ("publisher", "offer", "sku", "version") if not image.get(part)]
        if image.get("id") or image.get("sharedGalleryImageId") or image.get("communityGalleryImageId"):
            raise not_modelled("An image from a gallery", "imageReference")
        if missing:
            raise compute_parameter(
                f"Required parameter 'imageReference.{missing[0]}' is missing (null).", "imageReference"
            )
        if storage["osDisk"]["createOption"] != "FromImage":
            raise not_modelled(f"OS disk createOption '{storage['osDisk']['createOption']}'", "osDisk.createOption")
        luns = [data["lun"] for data in storage["dataDisks"]]
        if len(set(luns)) != len(luns):
            raise compute_parameter("Two data disks have the same logical unit number.", "dataDisks.lun")
        for data in storage["dataDisks"]:
            disk_id = (data.get("managedDisk") or {}).get("id")
            match data["createOption"]:
                case "Attach":
                    if not disk_id:
                        raise compute_parameter(
                            "Required parameter 'dataDisk.managedDisk.id' is missing (null).", "dataDisk"
                        )
                    owner = vm_of_disk(state, disk_id)
                    if owner is not None and not same(owner, str(rid)):
                        raise ArmError(
                            409,
                            "ConflictingUserInput",
                            f"Disk '{data['name']}' cannot be attached as the disk is already owned by VM '{owner}'.",
                        )
                case "Empty":
                    if "diskSizeGB" not in data:
                        raise compute_parameter(
                            "Required parameter 'dataDisk.diskSizeGB' is missing (null).", "dataDisk"
                        )
                case other:
                    raise not_modelled(f"Data disk createOption '{other}'", "dataDisks.createOption")

    @staticmethod
    def _check_zone(wish: dict[str, Any], state: State) -> None:
        """A managed disk is in the zone of its VM (learn.microsoft.com: availability zones and managed disks)."""
        zones = wish.get("zones") or []
        placed = wish["properties"].get("availabilitySet")
        if zones and placed:
            raise ArmError(
                400, "BadRequest", "A virtual machine in an availability set cannot be in a zone.", target="zones"
            )
        found = state.find(placed["id"]) if placed else None
        if found is not None and found.wish["sku"]["name"] != "Aligned":
            raise ArmError(
                400,
                "BadRequest",
                f"Availability set {found.rid.name} is not 'Aligned'; VMs with managed disks need that.",
                target="availabilitySet",
            )
        for data in wish["properties"]["storageProfile"]["dataDisks"]:
            disk = state.find((data.get("managedDisk") or {}).get("id", ""))
            redundant = disk is not None and disk.wish["sku"]["name"].endswith("_ZRS")
            if disk is not None and not redundant and (disk.wish.get("zones") or []) != zones:
                raise ArmError(
                    400,
                    "BadRequest",
                    f"Disk {disk.rid.name} in zone {disk.wish.get('zones')} cannot be attached to a VM in zone "
                    f"{zones}.",
                    target="dataDisks",
                )

    @staticmethod
    def _check_os(os_profile: dict[str, Any]) -> None:
        if not _COMPUTER_NAME.match(os_profile["computerName"]):
            raise ArmError(
                400,
                "InvalidParameter",
                "Linux host name cannot exceed 64 characters in length or contain the following characters: "
                "` ~ ! @ # $ % ^ & * ( ) = + _ [ ] { } \\ | ; : ' \" , < > / ?.",
                target="computerName",
            )
        if not os_profile.get("adminUsername"):
            raise compute_parameter("Required parameter 'adminUsername' is missing (null).", "adminUsername")
        linux = os_profile.get("linuxConfiguration", {"disablePasswordAuthentication": False})
        keys = ((linux.get("ssh") or {}).get("publicKeys")) or []
        if linux["disablePasswordAuthentication"] and not keys:
            raise ArmError(
                400,
                "InvalidParameter",
                "Authentication using either SSH or by user name and password must be enabled in Linux profile.",
                target="linuxConfiguration",
            )
        custom = os_profile.get("customData")
        if custom is not None:
            try:
                decoded = base64.b64decode(custom, validate=True)
            except binascii.Error:
                decoded = None
            if decoded is None or len(custom) > MAX_CUSTOM_DATA_CHARS:
                raise compute_parameter(
                    "Custom data in OSProfile must be in Base64 encoding and with a maximum length of "
                    f"{MAX_CUSTOM_DATA_CHARS} characters.",
                    "customData",
                )

    @staticmethod
    def _check_interfaces(rid: ResourceId, network: dict[str, Any], state: State) -> None:
        nics = network.get("networkInterfaces") or []
        if not nics:
            raise compute_parameter("Required parameter 'networkInterfaces' is missing (null).", "networkInterfaces")
        if len(nics) > 1:
            raise not_modelled("A second network interface of a VM", "networkProfile.networkInterfaces[1]")
        for nic in nics:
            if "id" not in nic:
                raise compute_parameter(
                    "Required parameter 'networkInterface.id' is missing (null).", "networkInterface.id"
                )
            owner = vm_of_nic(state, nic["id"])
            if owner is not None and not same(owner, str(rid)):
                raise ArmError(400, "NicInUse", f"Network Interface {nic['id']} is used by existing resource {owner}.")

    def _check_changes(self, wish: dict[str, Any], old: Resource) -> None:
        before, after = _leaves(old.wish), _leaves(wish)
        os_profile = wish["properties"]["osProfile"]
        for name in _SECRETS:
            if name in os_profile and os_profile[name] != old.secrets.get(name):
                raise _unchangeable(f"osProfile.{name}")
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path) and not _CHANGEABLE.search(path) and not path.endswith(_SECRETS):
                raise _unchangeable(path.removeprefix("properties."))

    def missing_reference(self, reference: Reference) -> ArmError:
        return ArmError(404, "NotFound", f"Resource {reference.target} referenced by {reference.source} was not found.")

    def bare(self, wish: dict[str, Any]) -> dict[str, Any]:
        found = copy.deepcopy(wish)
        for name in _SECRETS:
            found["properties"]["osProfile"].pop(name, None)
        return found

    # --- keeping and showing ---------------------------------------------------------------------------------------
    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("vmId", str(uuid.uuid4()))
        os_profile = resource.properties["osProfile"]
        for name in _SECRETS:
            if name in os_profile:
                resource.secrets[name] = os_profile.pop(name)

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        body["properties"]["vmId"] = resource.assigned["vmId"]
        body["properties"]["timeCreated"] = resource.created_at
        body["etag"] = f'"{resource.generation}"'  # VMs count: seen in cloud-provider-azure#9728

    etag = False  # shown by `show`


def _unchangeable(path: str) -> ArmError:
    return ArmError(409, "PropertyChangeNotAllowed", f"Changing property '{path}' is not allowed.", target=path)


def _overlay(old: Any, new: Any) -> Any:
    """`new` over `old`: what a PUT leaves out of an existing VM keeps its value (lists are matched by position)."""
    if isinstance(old, dict) and isinstance(new, dict):
        merged = copy.deepcopy(old)
        for key, value in new.items():
            merged[key] = _overlay(old.get(key), value)
        return merged
    if isinstance(old, list) and isinstance(new, list):
        return [_overlay(old[i] if i < len(old) else None, value) for i, value in enumerate(new)]
    return copy.deepcopy(new)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= _leaves(inner, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found |= _leaves(inner, f"{path}[{index}]")
        return found
    return {path: value.lower() if isinstance(value, str) and value.startswith("/subscriptions/") else value}
