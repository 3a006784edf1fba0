"""What a cluster would cost and which quotas it needs, before anything is made: pure arithmetic over a dated table.

Guarantee: the resources are those of the reconciler's own specs, so none is forgotten; what the table does not know
has no price and is listed in `unpriced`, never guessed; the answer carries the date, the region and the source of its
prices. Limits: list prices of one region without tax, reservations or traffic (NAT gateway and load balancer also
charge for bytes); disk transactions and snapshots are not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, TypeAdapter

from shared.azure.resources import Body, ResourceType
from shared.model.document import ApiModel
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.cluster import cluster_specs
from shared.provisioning.vm_sizes import size_facts

TABLE: Final = Path(__file__).with_name("prices.json")
# Size of the OS disk that comes with the image.
_OS_DISK_GIB: Final[Mapping[str, int]] = {"linux": 30, "windows": 127}


class PriceTable(ApiModel):
    """Prices as data: `prices.json` beside this module. Disk tiers are keyed by their largest size in GiB."""

    date: str
    region: str
    currency: str
    source: str
    hours_per_month: float = Field(gt=0)
    vm_per_hour: dict[str, float]
    windows_per_core_hour: float
    disk_per_month: dict[str, dict[int, float]]
    disk_per_gib_month: dict[str, float]
    public_address_per_hour: float
    nat_gateway_per_hour: float
    balancer_per_hour: float
    balancer_rules_included: int
    balancer_rule_per_hour: float


def price_table() -> PriceTable:
    return TypeAdapter(PriceTable).validate_json(TABLE.read_bytes())


@dataclass(frozen=True, slots=True)
class Item:
    """A resource with what it costs a month; None: the table does not know. 0: Azure does not charge for it."""

    type: str
    name: str
    sku: str
    zone: str | None
    monthly: float | None


@dataclass(frozen=True, slots=True)
class Quota:
    """`provider`: whose quota it is (Microsoft.Compute or Microsoft.Network); `name` as the usage API has it."""

    provider: str
    name: str
    needed: int


@dataclass(frozen=True, slots=True)
class Estimate:
    items: tuple[Item, ...]
    quotas: tuple[Quota, ...]
    public_addresses: int

    @property
    def unpriced(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items if item.monthly is None)

    @property
    def monthly(self) -> float:
        return round(sum(item.monthly or 0.0 for item in self.items), 2)


def estimate(plan: ClusterPlan, table: PriceTable) -> Estimate:
    own = [spec for spec in cluster_specs(plan) if not spec.brought]
    items: list[Item] = []
    for spec in own:
        items.append(_item(plan, spec.ref.type, spec.ref.name, spec.wanted, table))
        if spec.ref.type is ResourceType.VIRTUAL_MACHINE:
            items.append(_os_disk(plan, spec.wanted, table))
    return Estimate(
        tuple(items), _quotas(plan, [spec.ref.type for spec in own]), sum(_is_address(spec.ref.type) for spec in own)
    )


def _item(plan: ClusterPlan, kind: ResourceType, name: str, wanted: Body, table: PriceTable) -> Item:
    sku, hourly, monthly = str((wanted.get("sku") or {}).get("name", "")), 0.0, 0.0
    known = True
    match kind:
        case ResourceType.VIRTUAL_MACHINE:
            sku = plan.vm_size
            price = _machine_per_hour(plan, table)
            known, hourly = price is not None, price or 0.0
        case ResourceType.DISK:
            price = disk_per_month(sku, plan.data_disk_gb, table)
            known, monthly = price is not None, price or 0.0
            sku = f"{sku}, {plan.data_disk_gb} GiB"
        case ResourceType.PUBLIC_IP:
            hourly = table.public_address_per_hour
        case ResourceType.NAT_GATEWAY:
            hourly = table.nat_gateway_per_hour
        case ResourceType.LOAD_BALANCER:
            more = max(0, len(wanted["properties"]["loadBalancingRules"]) - table.balancer_rules_included)
            hourly = table.balancer_per_hour + more * table.balancer_rule_per_hour
        case _:
            pass  # groups, networks, interfaces and placement cost nothing
    cost = round(monthly + hourly * table.hours_per_month, 2) if known else None
    return Item(kind.value, name, sku, _zone(wanted), cost)


def _machine_per_hour(plan: ClusterPlan, table: PriceTable) -> float | None:
    price = table.vm_per_hour.get(plan.vm_size)
    if price is None or plan.image.os == "linux":
        return price
    facts = size_facts(plan.vm_size)
    return None if facts is None else price + facts.cores * table.windows_per_core_hour


def _os_disk(plan: ClusterPlan, machine: Body, table: PriceTable) -> Item:
    disk = machine["properties"]["storageProfile"]["osDisk"]
    sku, size_gib = str(disk["managedDisk"]["storageAccountType"]), _OS_DISK_GIB[plan.image.os]
    price = disk_per_month(sku, size_gib, table)
    return Item(ResourceType.DISK.value, str(disk["name"]), f"{sku}, {size_gib} GiB", _zone(machine), price)


def disk_per_month(sku: str, size_gib: int, table: PriceTable) -> float | None:
    """Disks are sold in tiers: the smallest that holds the size; PremiumV2 by the GiB."""
    if sku in table.disk_per_gib_month:
        return round(table.disk_per_gib_month[sku] * size_gib, 2)
    fitting = [tier for tier in table.disk_per_month.get(sku, {}) if tier >= size_gib]
    return table.disk_per_month[sku][min(fitting)] if fitting else None


def _quotas(plan: ClusterPlan, kinds: list[ResourceType]) -> tuple[Quota, ...]:
    count = Counter(kinds)
    machines = count[ResourceType.VIRTUAL_MACHINE]
    facts = size_facts(plan.vm_size)
    found = [Quota("Microsoft.Compute", "virtualMachines", machines)]
    if facts is not None:
        found += [
            Quota("Microsoft.Compute", "cores", machines * facts.cores),
            Quota("Microsoft.Compute", facts.quota, machines * facts.cores),
        ]
    for kind, name in (
        (ResourceType.AVAILABILITY_SET, "availabilitySets"),
        (ResourceType.PUBLIC_IP, "StandardSkuPublicIpAddresses"),
        (ResourceType.NAT_GATEWAY, "NatGateways"),
        (ResourceType.LOAD_BALANCER, "LoadBalancers"),
        (ResourceType.VIRTUAL_NETWORK, "VirtualNetworks"),
        (ResourceType.SECURITY_GROUP, "NetworkSecurityGroups"),
        (ResourceType.NETWORK_INTERFACE, "NetworkInterfaces"),
    ):
        if count[kind]:
            found.append(Quota(kind.value.partition("/")[0], name, count[kind]))
    return tuple(found)


def _is_address(kind: ResourceType) -> bool:
    return kind is ResourceType.PUBLIC_IP


def _zone(wanted: Body) -> str | None:
    zones = wanted.get("zones") or []
    return ",".join(zones) or None
