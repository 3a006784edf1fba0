"""From ARM's bodies to the provider's definitions: references resolved, defaults filled, spellings merged. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from lab.arm import provider as port
from lab.arm.errors import MissingResource
from lab.arm.graph import children, referrers
from lab.arm.ids import parse_resource_id
from lab.arm.kinds.allocation import subnet_prefix
from lab.arm.kinds.interface import vm_of
from lab.arm.kinds.network import default_rules, values
from lab.arm.kinds.registry import kind_of
from lab.arm.state import Resource, State

NIC_TYPE = "Microsoft.Network/networkInterfaces"


def body_of(resource: Resource, state: State) -> dict[str, Any]:
    return kind_of(resource.rid.type).render(resource, state)


def need(state: State, id_text: str) -> Resource:
    """Raises `MissingResource`; only for ids that were checked when they were written."""
    found = state.find(id_text)
    if found is None:
        raise MissingResource(f"{id_text} is not in the lab's state (deleted out of band?)")
    return found


def public_address(state: State, reference: Mapping[str, Any] | None) -> str | None:
    if reference is None:
        return None
    address = state.find(reference["id"])
    return None if address is None else address.assigned.get("ipAddress")


def network(resource: Resource, state: State) -> port.Network:
    subnets = []
    for subnet in children(resource.wish, "subnets"):
        properties = subnet["properties"]
        gateway_id = (properties.get("natGateway") or {}).get("id")
        gateway = state.find(gateway_id) if gateway_id else None
        wanted = (gateway.properties.get("publicIpAddresses") or []) if gateway else []
        found = (public_address(state, reference) for reference in wanted)
        subnets.append(
            port.Subnet(
                id=f"{resource.id}/subnets/{subnet['name']}",
                name=subnet["name"],
                address_prefix=properties["addressPrefix"],
                security_group_id=(properties.get("networkSecurityGroup") or {}).get("id"),
                nat_gateway_id=gateway_id,
                nat_addresses=tuple(address for address in found if address is not None),
                default_outbound_access=properties.get("defaultOutboundAccess", True),
            )
        )
    return port.Network(
        id=resource.id,
        name=resource.rid.name,
        location=resource.location,
        address_prefixes=tuple(resource.properties["addressSpace"]["addressPrefixes"]),
        subnets=tuple(subnets),
        body=body_of(resource, state),
    )


def security_group(resource: Resource, state: State) -> port.SecurityGroup:
    rules = [_rule(rule) for rule in children(resource.wish, "securityRules") + default_rules()]
    rules.sort(key=lambda rule: (rule.direction, rule.priority))
    return port.SecurityGroup(resource.id, resource.rid.name, tuple(rules), body_of(resource, state))


def _rule(rule: dict[str, Any]) -> port.SecurityRule:
    properties = rule["properties"]
    return port.SecurityRule(
        name=rule["name"],
        priority=properties["priority"],
        direction=properties["direction"],
        access=properties["access"],
        protocol=properties["protocol"],
        source_prefixes=tuple(values(properties, "sourceAddressPrefix", "sourceAddressPrefixes")),
        source_ports=tuple(values(properties, "sourcePortRange", "sourcePortRanges")),
        destination_prefixes=tuple(values(properties, "destinationAddressPrefix", "destinationAddressPrefixes")),
        destination_ports=tuple(values(properties, "destinationPortRange", "destinationPortRanges")),
    )


def interface(resource: Resource, state: State) -> port.Interface:
    config = children(resource.wish, "ipConfigurations")[0]
    properties = config["properties"]
    subnet_id = properties["subnet"]["id"]
    subnet_rid = parse_resource_id(subnet_id)
    vnet = need(state, str(subnet_rid.parent))
    subnet = next((s for s in network(vnet, state).subnets if s.name.lower() == subnet_rid.name.lower()), None)
    if subnet is None:
        raise MissingResource(f"{subnet_id} is not in the lab's state (deleted out of band?)")
    own_group = (resource.properties.get("networkSecurityGroup") or {}).get("id")
    return port.Interface(
        nic_id=resource.id,
        name=resource.rid.name,
        private_address=resource.assigned["addresses"][config["name"]],
        mac=resource.assigned["macAddress"].replace("-", ":").lower(),
        subnet_id=subnet.id,
        subnet_prefix=str(subnet_prefix(state, subnet_id)),
        vnet_id=vnet.id,
        security_group_ids=tuple(group for group in (subnet.security_group_id, own_group) if group is not None),
        public_address=public_address(state, properties.get("publicIPAddress")),
        vm_id=vm_of(state, resource.id),
    )


def load_balancer(resource: Resource, state: State) -> port.LoadBalancer:
    pools = tuple(_pool(resource, pool["name"], state) for pool in children(resource.wish, "backendAddressPools"))
    frontends = tuple(_frontends(resource, state))
    return port.LoadBalancer(
        id=resource.id,
        name=resource.rid.name,
        location=resource.location,
        vnet_id=_vnet_of(resource, pools, state),
        frontends=frontends,
        pools=pools,
        probes=tuple(_probe(resource, probe) for probe in children(resource.wish, "probes")),
        rules=tuple(_lb_rule(rule) for rule in children(resource.wish, "loadBalancingRules")),
        body=body_of(resource, state),
    )


def _frontends(resource: Resource, state: State) -> list[port.LbFrontend]:
    found = []
    for frontend in children(resource.wish, "frontendIPConfigurations"):
        properties, name = frontend["properties"], frontend["name"]
        public = public_address(state, properties.get("publicIPAddress"))
        address = public or resource.assigned["addresses"].get(name)
        if address is not None:
            found.append(
                port.LbFrontend(
                    id=f"{resource.id}/frontendIPConfigurations/{name}",
                    name=name,
                    address=address,
                    public=public is not None,
                    subnet_id=(properties.get("subnet") or {}).get("id"),
                )
            )
    return found


def _pool(resource: Resource, name: str, state: State) -> port.LbPool:
    pool_id = f"{resource.id}/backendAddressPools/{name}"
    members = []
    for use in referrers(state, pool_id):
        nic = need(state, use.owner)
        config_name = parse_resource_id(use.source).name
        members.append(
            port.LbBackend(
                nic_id=nic.id, vm_id=vm_of(state, nic.id), private_address=nic.assigned["addresses"][config_name]
            )
        )
    return port.LbPool(pool_id, name, tuple(members))


def _vnet_of(resource: Resource, pools: tuple[port.LbPool, ...], state: State) -> str | None:
    subnets = [
        frontend["properties"]["subnet"]["id"]
        for frontend in children(resource.wish, "frontendIPConfigurations")
        if frontend["properties"].get("subnet")
    ]
    for pool in pools:
        for backend in pool.backends:
            subnets.append(interface(need(state, backend.nic_id), state).subnet_id)
    return need(state, str(parse_resource_id(subnets[0]).parent)).id if subnets else None


def _probe(resource: Resource, probe: dict[str, Any]) -> port.LbProbe:
    properties = probe["properties"]
    return port.LbProbe(
        id=f"{resource.id}/probes/{probe['name']}",
        name=probe["name"],
        protocol=properties["protocol"],
        port=properties["port"],
        path=properties.get("requestPath"),
        interval_s=properties["intervalInSeconds"],
        threshold=properties["probeThreshold"],
    )


def _lb_rule(rule: dict[str, Any]) -> port.LbRule:
    properties = rule["properties"]
    return port.LbRule(
        name=rule["name"],
        protocol=properties["protocol"],
        frontend_id=properties["frontendIPConfiguration"]["id"],
        frontend_port=properties["frontendPort"],
        backend_port=properties["backendPort"],
        pool_ids=tuple(pool["id"] for pool in properties.get("backendAddressPools") or []),
        probe_id=(properties.get("probe") or {}).get("id"),
        floating_ip=properties["enableFloatingIP"],
        idle_timeout_min=properties["idleTimeoutInMinutes"],
        tcp_reset=properties["enableTcpReset"],
        distribution=properties["loadDistribution"],
    )


def disk(resource: Resource) -> port.Disk:
    zones = resource.wish.get("zones") or [None]
    os_image = resource.assigned.get("image")
    return port.Disk(resource.id, resource.rid.name, resource.properties["diskSizeGB"], zones[0], os_image)


def image_urn(resource: Resource) -> str:
    """ "publisher:offer:sku:version" of a VM's image reference."""
    reference = resource.properties["storageProfile"]["imageReference"]
    return ":".join(str(reference[part]) for part in ("publisher", "offer", "sku", "version"))


def machine(resource: Resource, state: State) -> port.VmDefinition:
    """Needs the VM's disks and interfaces in the state: raises `MissingResource` without them."""
    properties, rid = resource.properties, resource.rid
    storage, os_profile = properties["storageProfile"], properties["osProfile"]
    nics = sorted(properties["networkProfile"]["networkInterfaces"], key=lambda nic: not nic["properties"]["primary"])
    keys = ((os_profile.get("linuxConfiguration", {}).get("ssh") or {}).get("publicKeys")) or []
    return port.VmDefinition(
        id=resource.id,
        uuid=resource.assigned["vmId"],
        name=rid.name,
        computer_name=os_profile["computerName"],
        resource_group=rid.group,
        subscription_id=rid.subscription,
        location=resource.location,
        zone=(resource.wish.get("zones") or [None])[0],
        size=properties["hardwareProfile"]["vmSize"],
        image=image_urn(resource),
        os_type=storage["osDisk"]["osType"],
        admin_user=os_profile["adminUsername"],
        ssh_public_keys=tuple(key["keyData"] for key in keys if "keyData" in key),
        custom_data=base64.b64decode(resource.secrets.get("customData", "")),
        os_disk=disk(need(state, storage["osDisk"]["managedDisk"]["id"])),
        data_disks=tuple(
            port.AttachedDisk(data["lun"], disk(need(state, data["managedDisk"]["id"])))
            for data in storage["dataDisks"]
        ),
        nics=tuple(interface(need(state, nic["id"]), state) for nic in nics),
        tags=dict(resource.wish.get("tags") or {}),
        body=body_of(resource, state),
    )
