"""A node's virtual machine.

- `scheduledEventsPolicy`: a restart or redeploy we ask ARM for becomes a Scheduled Event that waits up to 15 minutes
  for an acknowledgement of the (possibly dead) node itself; automatic approval of such events removes that wait.
- `osProfile` (with custom data) is create-only: ARM neither returns nor accepts a change of it.
- size, image and zone are immutable here: changing them restarts the VM, and a plain update would restart the serving
  node. A rolling change belongs to remediation (replace the redundant node first).
- the OS disk goes with the VM, the data disk and NIC do not.
"""

from __future__ import annotations

import base64

from mirror_agent.contract import NodeName

from shared.azure.resources import Body
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec

DATA_DISK_LUN = 0


def virtual_machine(plan: ClusterPlan, node: NodeName, custom_data: str | None) -> Spec:
    """`custom_data`: the boot document as text, None when the VM is there already. It is create-only."""
    machine = plan.machine(node)
    properties: Body = {
        "hardwareProfile": {"vmSize": plan.vm_size},
        "storageProfile": {
            "imageReference": _image(plan),
            "osDisk": {
                "name": plan.os_disk_name(node),
                "osType": plan.image.os.capitalize(),
                "createOption": "FromImage",
                "caching": "ReadWrite",
                "managedDisk": {"storageAccountType": "Premium_LRS"},
                "deleteOption": "Delete",
            },
            "dataDisks": [
                {
                    "name": plan.data_disk(node).name,
                    "lun": DATA_DISK_LUN,
                    "createOption": "Attach",
                    # The engine acknowledges what is on disk: no host cache between it and the disk.
                    "caching": "None",
                    "managedDisk": {"id": plan.id(plan.data_disk(node))},
                    "deleteOption": "Detach",
                }
            ],
        },
        "osProfile": _os_profile(plan, node, custom_data),
        "networkProfile": {
            "networkInterfaces": [
                {"id": plan.id(plan.nic(node)), "properties": {"primary": True, "deleteOption": "Detach"}}
            ]
        },
        "securityProfile": {
            "securityType": "TrustedLaunch",
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
        },
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        "scheduledEventsPolicy": {
            "userInitiatedReboot": {"automaticallyApprove": True},
            "userInitiatedRedeploy": {"automaticallyApprove": True},
        },
    }
    wanted: Body = {
        "location": plan.location,
        "tags": plan.all_tags,
        "identity": {"type": "SystemAssigned"},
        "properties": properties,
    }
    needs = {plan.nic(node), plan.data_disk(node)}
    if plan.availability_set:
        properties["availabilitySet"] = {"id": plan.id(plan.availability_group)}
        needs.add(plan.availability_group)
    if plan.proximity_group is not None:
        properties["proximityPlacementGroup"] = {"id": plan.id(plan.proximity_group)}
        needs.add(plan.proximity_group)
    zone = plan.zone(node)
    if zone is not None:
        wanted["zones"] = zone
    return Spec(
        ref=machine,
        owner=plan.owner,
        wanted=wanted,
        needs=frozenset(needs),
        creatable=custom_data is not None,
        keep_foreign=frozenset({("properties", "storageProfile", "dataDisks")}),
        immutable=(
            ("location",),
            ("zones",),
            ("properties", "hardwareProfile", "vmSize"),
            ("properties", "availabilitySet"),
            ("properties", "proximityPlacementGroup"),
            ("properties", "storageProfile", "imageReference", "id"),
            ("properties", "storageProfile", "imageReference", "offer"),
            ("properties", "storageProfile", "imageReference", "sku"),
        ),
        create_only=(
            ("properties", "osProfile"),
            ("properties", "storageProfile", "imageReference"),
            ("properties", "storageProfile", "osDisk", "createOption"),
            ("properties", "securityProfile"),
        ),
    )


def _image(plan: ClusterPlan) -> Body:
    if plan.image_id is not None:
        return {"id": plan.image_id}
    return {
        "publisher": plan.image.publisher,
        "offer": plan.image.offer,
        "sku": plan.image.sku,
        "version": plan.image.version,
    }


def _os_profile(plan: ClusterPlan, node: NodeName, custom_data: str | None) -> Body:
    profile: Body = {
        "computerName": plan.machine(node).name,
        "adminUsername": plan.admin_username,
        "customData": None if custom_data is None else base64.b64encode(custom_data.encode()).decode(),
        "allowExtensionOperations": True,
    }
    if plan.image.os == "windows":
        # At most 15 characters in NetBIOS; ARM refuses longer ones.
        profile["computerName"] = f"{plan.cluster[:13]}-{node}"
        profile["adminPassword"] = plan.admin_password
        profile["windowsConfiguration"] = {
            "provisionVMAgent": True,
            "enableAutomaticUpdates": False,
            # Hotpatches come with AutomaticByPlatform only, which restarts machines of both nodes by itself.
            "patchSettings": {"patchMode": "Manual", "enableHotpatching": False, "assessmentMode": "ImageDefault"},
        }
        return profile
    profile["linuxConfiguration"] = {
        "disablePasswordAuthentication": True,
        "ssh": {
            "publicKeys": [
                {"path": f"/home/{plan.admin_username}/.ssh/authorized_keys", "keyData": plan.ssh_public_key}
            ]
        },
        "provisionVMAgent": True,
        # Patches that reboot behind our back would take both nodes at once.
        "patchSettings": {"patchMode": "ImageDefault", "assessmentMode": "ImageDefault"},
    }
    return profile
