"""Standard load balancers: frontends, pools, probes, rules.

Children are replaced wholesale by a PUT of the balancer, as on Azure. Backends are not listed in the pool's wish: the
interfaces name the pool, and the pool shows them (`backendIPConfigurations`). Limits of probes and rules: docstrings of
the SDK's models.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from lab.arm.errors import ArmError, network_format, not_modelled
from lab.arm.graph import Reference, children, references, referrers
from lab.arm.ids import ResourceId, parse_resource_id
from lab.arm.kinds.addresses import refuse_taken_address
from lab.arm.kinds.allocation import allocate, check_static
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

# learn.microsoft.com: load balancer health probes. An HTTP probe cannot use these ports.
FORBIDDEN_HTTP_PROBE_PORTS = frozenset({19, 21, 25, 70, 110, 119, 143, 220, 993})
_BACK_REFERENCES = {"frontendIPConfiguration", "backendAddressPool", "backendAddressPools", "probe"}


class LoadBalancer(Kind):
    type = "Microsoft.Network/loadBalancers"
    model = "LoadBalancer"
    children = ("frontendIPConfigurations", "backendAddressPools", "probes", "loadBalancingRules")
    needs_properties = frozenset({"probes", "loadBalancingRules"})
    child_models: ClassVar[dict[str, str]] = {"backendAddressPools": "BackendAddressPool"}
    reference_types: ClassVar[dict[str, str]] = {
        "publicIPAddress": "Microsoft.Network/publicIPAddresses",
        "subnet": "Microsoft.Network/virtualNetworks/subnets",
        "frontendIPConfiguration": "Microsoft.Network/loadBalancers/frontendIPConfigurations",
        "backendAddressPool": "Microsoft.Network/loadBalancers/backendAddressPools",
        "backendAddressPools": "Microsoft.Network/loadBalancers/backendAddressPools",
        "probe": "Microsoft.Network/loadBalancers/probes",
    }
    not_modelled = frozenset(
        {
            "inboundNatRules",
            "inboundNatPools",
            "outboundRules",
            "publicIPPrefix",
            "gatewayLoadBalancer",
            "loadBalancerBackendAddresses",
            "tunnelInterfaces",
            "virtualNetwork",
        }
    )

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        sku = wish.setdefault("sku", {})
        sku.setdefault("name", "Standard")
        sku.setdefault("tier", "Regional")
        for frontend in children(wish, "frontendIPConfigurations"):
            properties = frontend["properties"]
            properties.setdefault("privateIPAllocationMethod", "Dynamic")
            if properties["privateIPAllocationMethod"] == "Dynamic":
                properties.pop("privateIPAddress", None)
        for probe in children(wish, "probes"):
            properties = probe["properties"]
            properties.setdefault("intervalInSeconds", 15)
            properties.setdefault("numberOfProbes", 2)
            properties.setdefault("probeThreshold", 1)
            properties.setdefault("noHealthyBackendsBehavior", "AllProbedDown")
        for rule in children(wish, "loadBalancingRules"):
            properties = rule["properties"]
            properties.setdefault("backendPort", properties["frontendPort"])
            properties.setdefault("idleTimeoutInMinutes", 4)
            properties.setdefault("enableFloatingIP", False)
            properties.setdefault("enableTcpReset", False)
            properties.setdefault("disableOutboundSnat", False)
            properties.setdefault("loadDistribution", "Default")
            plural, single = properties.get("backendAddressPools"), properties.get("backendAddressPool")
            if single and not plural:
                properties["backendAddressPools"] = [single]
            elif plural and not single and len(plural) == 1:
                properties["backendAddressPool"] = plural[0]

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        if wish["sku"]["name"] != "Standard":
            raise not_modelled(f"Load balancer SKU '{wish['sku']['name']}'", "sku.name")
        for index, frontend in enumerate(children(wish, "frontendIPConfigurations")):
            self._check_frontend(rid, index, frontend, state)
        for probe in children(wish, "probes"):
            self._check_probe(probe)
        taken: dict[tuple[str, str, int], str] = {}
        for rule in children(wish, "loadBalancingRules"):
            self._check_rule(rid, rule, taken)

    @staticmethod
    def _check_frontend(rid: ResourceId, index: int, frontend: dict[str, Any], state: State) -> None:
        properties = frontend["properties"]
        source = f"{rid}/frontendIPConfigurations/{frontend['name']}"
        path = f"properties.frontendIPConfigurations[{index}].properties"
        public, subnet = properties.get("publicIPAddress"), properties.get("subnet")
        if not public and not subnet:  # seen: Azure/azure-cli#934
            raise network_format("MissingJsonReferenceId", f"Value for reference id is missing. Path {path}.subnet.")
        if public and subnet:
            raise network_format(
                "FrontendIPConfigurationHasBothPublicAndPrivate", f"{source} names a public address and a subnet."
            )
        if public:
            refuse_taken_address(public["id"], source, state)
        elif properties["privateIPAllocationMethod"] == "Static":
            address = properties.get("privateIPAddress")
            if not address:
                raise network_format("PrivateIPAddressMissing", f"{source}: privateIPAddress is required.")
            check_static(state, str(rid), source, subnet["id"], address)

    @staticmethod
    def _check_probe(probe: dict[str, Any]) -> None:
        name, properties = probe["name"], probe["properties"]
        http = properties["protocol"] in ("Http", "Https")
        for field, low, high in (("port", 1, 65535), ("intervalInSeconds", 5, 65535), ("probeThreshold", 1, 100)):
            if not low <= properties[field] <= high:
                raise network_format(
                    "ProbeParameterOutOfRange",
                    f"Probe {name}: {field} is {properties[field]}, allowed {low} to {high}.",
                )
        if http and not properties.get("requestPath"):
            raise network_format(
                "ProbeRequestPathMissing", f"Probe {name}: requestPath is required for HTTP and HTTPS."
            )
        if not http and properties.get("requestPath"):
            raise network_format("ProbeRequestPathNotAllowed", f"Probe {name}: requestPath is not allowed for TCP.")
        if http and properties["port"] in FORBIDDEN_HTTP_PROBE_PORTS:
            raise network_format("ProbePortNotAllowed", f"Probe {name}: port {properties['port']} cannot be probed.")

    @staticmethod
    def _check_rule(rid: ResourceId, rule: dict[str, Any], taken: dict[tuple[str, str, int], str]) -> None:
        name, properties = rule["name"], rule["properties"]
        if "frontendIPConfiguration" not in properties:
            raise network_format(
                "MissingJsonReferenceId",
                f"Value for reference id is missing. Path properties.loadBalancingRules[{name}].properties."
                "frontendIPConfiguration.",
            )
        if properties["protocol"] == "All":
            raise not_modelled("HA ports (protocol All)", f"properties.loadBalancingRules[{name}].properties.protocol")
        for field in ("frontendPort", "backendPort"):
            if not 1 <= properties[field] <= 65534:
                raise network_format("RulePortOutOfRange", f"Rule {name}: {field} is {properties[field]}.")
        if not 4 <= properties["idleTimeoutInMinutes"] <= 100:
            raise network_format("RuleIdleTimeoutOutOfRange", f"Rule {name}: idleTimeoutInMinutes must be 4 to 100.")
        frontend = properties["frontendIPConfiguration"]["id"].lower()
        other = taken.setdefault((frontend, properties["protocol"], properties["frontendPort"]), name)
        if other != name:
            raise ArmError(
                400,
                "RulesUseSameFrontendPortProtocolAndIPConfig",
                f"Load balancing rules {other} and {name} of {rid} use the same frontend, port and protocol.",
            )

    def assign(self, resource: Resource, state: State) -> None:
        resource.assigned.setdefault("resourceGuid", str(uuid.uuid4()))
        allocate(resource, "frontendIPConfigurations", state)

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        properties = body["properties"]
        properties["resourceGuid"] = resource.assigned["resourceGuid"]
        properties.setdefault("inboundNatRules", [])
        properties.setdefault("outboundRules", [])
        own = list(references(resource.id, resource.wish))
        for array in ("frontendIPConfigurations", "backendAddressPools", "probes"):
            for child in properties[array]:
                rules = {
                    r.source: None
                    for r in own
                    if r.property in _BACK_REFERENCES and r.target.lower() == child["id"].lower()
                }
                if rules:
                    child["properties"]["loadBalancingRules"] = [{"id": source} for source in rules]
        for frontend in properties["frontendIPConfigurations"]:
            address = resource.assigned.get("addresses", {}).get(frontend["name"])
            if address is not None:
                frontend["properties"]["privateIPAddress"] = address
        for pool in properties["backendAddressPools"]:
            members = [{"id": use.source} for use in referrers(state, pool["id"])]
            if members:
                pool["properties"]["backendIPConfigurations"] = members

    def refuse_removed_child(self, child_id: str, uses: list[Reference]) -> ArmError:
        return ArmError(
            400,
            "InUseBackendAddressPoolCannotBeDeleted",
            f"{parse_resource_id(child_id).type} {child_id} is in use by {uses[0].source} and cannot be deleted.",
        )

    def refuse_if_used(self, resource: Resource, state: State) -> None:
        """Interfaces in a pool do not hold a balancer back: they are taken out of it (`drop_pools`)."""


def drop_pools(state: State, balancer_id: str) -> list[Resource]:
    """Take every interface out of the pools of a balancer that is going; the interfaces that changed."""
    changed = []
    prefix = balancer_id.lower() + "/"
    for resource in state.of_type("Microsoft.Network/networkInterfaces"):
        for config in children(resource.wish, "ipConfigurations"):
            pools = config["properties"].get("loadBalancerBackendAddressPools") or []
            kept = [pool for pool in pools if not pool["id"].lower().startswith(prefix)]
            if len(kept) != len(pools):
                config["properties"]["loadBalancerBackendAddressPools"] = kept
                resource.generation += 1
                changed.append(resource)
    return changed
