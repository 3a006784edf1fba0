"""The bodies a cluster's resources have, as plain JSON for the SDK clients."""

from __future__ import annotations

import base64
from typing import Any

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
LOCATION = "westeurope"
GROUP = "mirrorplane-demo"
CUSTOM_DATA = base64.b64encode(b"#cloud-config\nruncmd: []\n").decode()

Body = dict[str, Any]


def network_id(type_name: str, name: str) -> str:
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network/{type_name}/{name}"


def vnet(**subnet: Any) -> Body:
    properties = {"addressPrefix": "10.0.0.0/24", "defaultOutboundAccess": False, **subnet}
    return {
        "location": LOCATION,
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "nodes", "properties": properties}],
        },
    }


SUBNET_ID = network_id("virtualNetworks", "demo-vnet") + "/subnets/nodes"
POOL_ID = network_id("loadBalancers", "demo-lb") + "/backendAddressPools/nodes"


def nsg(priority: int = 100) -> Body:
    rule = {
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "destinationPortRanges": ["9010", "9453"],
        "sourceAddressPrefix": "AzureLoadBalancer",
        "destinationAddressPrefix": "*",
        "access": "Allow",
        "priority": priority,
        "direction": "Inbound",
    }
    return {"location": LOCATION, "properties": {"securityRules": [{"name": "probe", "properties": rule}]}}


def public_ip() -> Body:
    return {"location": LOCATION, "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}


def nat(address: str) -> Body:
    return {
        "location": LOCATION,
        "sku": {"name": "Standard"},
        "properties": {"publicIpAddresses": [{"id": network_id("publicIPAddresses", address)}]},
    }


def load_balancer(address: str = "demo-vip") -> Body:
    lb = network_id("loadBalancers", "demo-lb")
    probe = {"protocol": "Http", "port": 9010, "requestPath": "/ready", "intervalInSeconds": 5, "probeThreshold": 1}
    rule = {
        "protocol": "Tcp",
        "frontendPort": 8080,
        "backendPort": 8080,
        "frontendIPConfiguration": {"id": f"{lb}/frontendIPConfigurations/vip"},
        "backendAddressPool": {"id": f"{lb}/backendAddressPools/nodes"},
        "probe": {"id": f"{lb}/probes/ready"},
        "enableTcpReset": True,
    }
    frontend = {"publicIPAddress": {"id": network_id("publicIPAddresses", address)}}
    return {
        "location": LOCATION,
        "sku": {"name": "Standard"},
        "properties": {
            "frontendIPConfigurations": [{"name": "vip", "properties": frontend}],
            "backendAddressPools": [{"name": "nodes"}],
            "probes": [{"name": "ready", "properties": probe}],
            "loadBalancingRules": [{"name": "ledger", "properties": rule}],
        },
    }


def nic(address: str | None = None, *, public: str | None = None, pool: bool = False, group: bool = False) -> Body:
    config: Body = {"subnet": {"id": SUBNET_ID}}
    if address:
        config |= {"privateIPAllocationMethod": "Static", "privateIPAddress": address}
    if public:
        config["publicIPAddress"] = {"id": network_id("publicIPAddresses", public)}
    if pool:
        config["loadBalancerBackendAddressPools"] = [{"id": POOL_ID}]
    properties: Body = {"ipConfigurations": [{"name": "primary", "properties": config}]}
    if group:
        properties["networkSecurityGroup"] = {"id": network_id("networkSecurityGroups", "demo-nsg")}
    return {"location": LOCATION, "properties": properties}


def vm(nic_name: str, *, data_disk_id: str | None = None, delete_option: str = "Delete") -> Body:
    disk: Body = {"lun": 0, "createOption": "Empty", "diskSizeGB": 32, "deleteOption": delete_option}
    if data_disk_id is not None:
        disk = {"lun": 0, "createOption": "Attach", "managedDisk": {"id": data_disk_id}}
    key = {"path": "/home/azureuser/.ssh/authorized_keys", "keyData": "ssh-ed25519 AAAA test"}
    return {
        "location": LOCATION,
        "zones": ["1"],
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {
                "imageReference": {"publisher": "debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
                "osDisk": {"name": "demo-a-os", "createOption": "FromImage", "deleteOption": delete_option},
                "dataDisks": [disk],
            },
            "osProfile": {
                "computerName": "demo-a",
                "adminUsername": "azureuser",
                "customData": CUSTOM_DATA,
                "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
            },
            "networkProfile": {"networkInterfaces": [{"id": network_id("networkInterfaces", nic_name)}]},
        },
    }
