"""What a cluster would cost: the reconciler's resources, a dated table, and no guess where the table knows nothing."""

from __future__ import annotations

import pytest

from shared.provisioning.estimate import disk_per_month, estimate, price_table
from shared.provisioning.vm_sizes import SizeFacts, size_facts
from tests.unit.provisioning.test_specs import brought_plan, placed_plan, plan, windows_plan

TABLE = price_table()


def test_a_usual_cluster_adds_up() -> None:
    found = estimate(plan(), TABLE)
    costs = {item.name: item.monthly for item in found.items}
    hours = TABLE.hours_per_month
    assert costs["pay-a"] == round(TABLE.vm_per_hour["Standard_D2s_v5"] * hours, 2)
    assert costs["pay-a-os"] == costs["pay-b-data"] == TABLE.disk_per_month["Premium_LRS"][32]
    assert costs["pay-vnet"] == costs["pay-nsg"] == 0
    assert costs["pay-nat"] == round(TABLE.nat_gateway_per_hour * hours, 2)
    assert found.monthly == round(sum(cost or 0 for cost in costs.values()), 2)
    assert found.unpriced == ()
    assert found.public_addresses == 4


def test_quotas_are_counted_in_cores_of_the_family() -> None:
    needed = {quota.name: quota.needed for quota in estimate(plan(vm_size="Standard_E8as_v5"), TABLE).quotas}
    assert needed["cores"] == needed["standardEASv5Family"] == 16
    assert needed["StandardSkuPublicIpAddresses"] == 4
    assert "availabilitySets" not in needed
    placed = {quota.name: quota.needed for quota in estimate(placed_plan(), TABLE).quotas}
    assert placed["availabilitySets"] == 1


def test_what_the_table_does_not_know_is_named_not_guessed() -> None:
    found = estimate(plan(vm_size="Standard_M128s_v2"), TABLE)
    assert found.unpriced == ("pay-a", "pay-b")
    assert found.monthly > 0


def test_what_is_brought_costs_nothing_here() -> None:
    found = estimate(brought_plan(), TABLE)
    names = {item.name for item in found.items}
    assert names.isdisjoint({"hub", "payments-rg", "pay-nat", "pay-vnet"})
    assert found.public_addresses == 0


def test_windows_pays_for_its_cores() -> None:
    linux, windows = (
        next(item.monthly for item in estimate(made, TABLE).items if item.name == "pay-a")
        for made in (plan(), windows_plan())
    )
    assert linux is not None
    assert windows == pytest.approx(linux + 2 * TABLE.windows_per_core_hour * TABLE.hours_per_month, abs=0.01)


@pytest.mark.parametrize(("size_gib", "tier"), [(4, 4), (5, 8), (32, 32), (33, 64), (20000, 32767)])
def test_disks_are_sold_in_tiers(size_gib: int, tier: int) -> None:
    assert disk_per_month("Premium_LRS", size_gib, TABLE) == TABLE.disk_per_month["Premium_LRS"][tier]


def test_only_the_newest_disks_are_sold_by_the_gibibyte() -> None:
    assert disk_per_month("PremiumV2_LRS", 100, TABLE) == pytest.approx(8.1)
    assert disk_per_month("UltraSSD_LRS", 100, TABLE) is None


@pytest.mark.parametrize(
    ("size", "facts"),
    [
        ("Standard_D2s_v5", SizeFacts(2, "standardDSv5Family")),
        ("Standard_D4ads_v5", SizeFacts(4, "standardDADSv5Family")),
        ("Standard_E8-4s_v5", SizeFacts(8, "standardESv5Family")),
        ("Standard_B2ms", SizeFacts(2, "standardBSFamily")),
        ("Standard_F16s_v2", SizeFacts(16, "standardFSv2Family")),
        ("Standard_A1", None),
        ("Standard_Odd", None),
    ],
)
def test_the_name_of_a_size_tells_cores_and_quota(size: str, facts: SizeFacts | None) -> None:
    assert size_facts(size) == facts


def test_the_table_says_when_and_from_where() -> None:
    assert TABLE.date
    assert TABLE.source
    assert all(price > 0 for prices in TABLE.disk_per_month.values() for price in prices.values())
