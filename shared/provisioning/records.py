"""From the stored cluster to the plan its resources are made from, and from resources to what is noted of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from shared.azure.resources import Body, ResourceRef, ResourceType
from shared.model.brought import BroughtId, proximity_group_id, subnet_id
from shared.model.cluster import ClusterRecord, ObservedNode, ObservedResources
from shared.model.cluster_compute import OWN_PROXIMITY_GROUP
from shared.model.cluster_network import node_address, virtual_address
from shared.provisioning.images import Image, supported_image
from shared.provisioning.plan import ClusterPlan, ForwardingRule

# Azure's smallest probe interval.
MIN_PROBE_INTERVAL_S = 5


def plan_of(
    record: ClusterRecord,
    *,
    subscription_id: str,
    control_plane_addresses: tuple[str, ...] = (),
    image: Image | None = None,
) -> ClusterPlan:
    """`image` None: the one the cluster names. Raises ImageError if that can no longer be provisioned."""
    spec = record.spec
    compute, network = spec.compute, spec.network
    return ClusterPlan(
        cluster=record.name,
        cluster_id=record.id,
        subscription_id=subscription_id,
        group=record.group,
        location=spec.location,
        image=image or supported_image(compute.image, compute.os),
        vm_size=compute.vm_size,
        zones=tuple(compute.zones),
        data_disk_gb=compute.data_disk_gb,
        admin_username=compute.admin_username,
        ssh_public_key=compute.ssh_public_key,
        address_space=network.address_space,
        subnet=network.subnet,
        node_addresses={node: node_address(network, node) for node in record.nodes},
        private_vip=virtual_address(network, record.nodes),
        frontend=network.frontend.value,
        admin_addresses=network.admin_addresses,
        control_plane_addresses=control_plane_addresses,
        dns_label=network.dns_label,
        rules=tuple(
            ForwardingRule(rule.name, rule.protocol.value, rule.frontend_port, rule.backend_port)
            for rule in network.rules
        ),
        probe_interval_s=max(MIN_PROBE_INTERVAL_S, math.ceil(spec.timing.probe_interval_s)),
        probe_threshold=spec.timing.probe_threshold,
        tags=dict(spec.tags),
        data_disk_sku=compute.data_disk_sku.value,
        image_id=compute.image_id,
        availability_set=compute.availability_set,
        proximity=_proximity(compute.proximity_placement_group),
        brought_group=spec.resource_group is not None,
        brought_subnet=None if network.subnet_id is None else subnet_id(network.subnet_id),
        node_public_addresses=network.node_public_addresses,
        farm=record.is_farm,
    )


def _proximity(text: str | None) -> Literal["own"] | BroughtId | None:
    if text is None:
        return None
    return "own" if text == OWN_PROXIMITY_GROUP else proximity_group_id(text)


def observed(before: ObservedResources, plan: ClusterPlan, resources: Mapping[ResourceRef, Body]) -> ObservedResources:
    """What the API shows of a cluster, with the news of `resources` (as ARM returned them)."""
    update: dict[str, Any] = {}
    nodes = dict(before.nodes)
    if plan.group_ref in resources:
        update["resource_group_id"] = plan.id(plan.group_ref)
    if plan.frontend == "private" and plan.load_balancer in resources:
        update["virtual_ip_address"] = plan.private_vip
    if plan.vip in resources:
        properties = resources[plan.vip].get("properties") or {}
        update["virtual_ip_address"] = properties.get("ipAddress") or before.virtual_ip_address
        update["virtual_ip_fqdn"] = (properties.get("dnsSettings") or {}).get("fqdn")
    for node in plan.nodes:
        known = nodes.get(node, ObservedNode())
        if plan.node_ip(node) in resources:
            properties = resources[plan.node_ip(node)].get("properties") or {}
            known = known.model_copy(update={"public_address": properties.get("ipAddress") or known.public_address})
        if plan.nic(node) in resources:
            known = known.model_copy(update={"private_address": plan.private_address(node)})
        if plan.machine(node) in resources:
            known = known.model_copy(update={"vm_id": plan.id(plan.machine(node))})
        if known != ObservedNode():
            nodes[node] = known
    return before.model_copy(update={**update, "nodes": nodes})


def lacks_address(ref: ResourceRef, resource: Mapping[str, Any]) -> bool:
    """A public address whose number is not known yet is not finished, whatever its state says."""
    return ref.type is ResourceType.PUBLIC_IP and not (resource.get("properties") or {}).get("ipAddress")
