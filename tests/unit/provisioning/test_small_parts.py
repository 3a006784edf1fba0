"""Fault classification, instance views, readiness, configuration versions, images, overlay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from mirror_agent.contract import MIRROR_NODES, Phase, Role

from shared.azure.arm import parse_instance_view
from shared.azure.faults import FaultKind, kind_of_answer, kind_of_failure
from shared.azure.resources import ResourceRef, ResourceType, parse_id
from shared.provisioning import readiness
from shared.provisioning.configuration import configuration_version, node_configuration
from shared.provisioning.images import ImageError, supported_image
from shared.provisioning.overlay import differs, overlay
from shared.store.connect import memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.queue import MemoryReconcileQueue
from tests.control_plane_samples import NOW, Clock, node_state, record


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "TooManyRequests", FaultKind.THROTTLED),
        (429, "AnotherOperationInProgress", FaultKind.THROTTLED),
        (503, "ServiceUnavailable", FaultKind.TRANSIENT),
        (500, "whatever", FaultKind.TRANSIENT),
        (408, "RequestTimeout", FaultKind.TRANSIENT),
        (409, "AnotherOperationInProgress", FaultKind.CONFLICT),
        (409, "SomethingNew", FaultKind.CONFLICT),
        (409, "QuotaExceeded", FaultKind.REFUSED),
        (409, "PropertyChangeNotAllowed", FaultKind.REFUSED),
        (412, "PreconditionFailed", FaultKind.CHANGED),
        (401, "ExpiredAuthenticationToken", FaultKind.DENIED),
        (403, "AuthorizationFailed", FaultKind.DENIED),
        (403, "RequestDisallowedByPolicy", FaultKind.REFUSED),
        (400, "InvalidRequestFormat", FaultKind.REFUSED),
        (400, "InUseSubnetCannotBeDeleted", FaultKind.CONFLICT),
        (404, "ResourceGroupNotFound", FaultKind.CONFLICT),
    ],
)
def test_an_error_answer_is_judged_by_status_and_code(status: int, code: str, kind: FaultKind) -> None:
    assert kind_of_answer(status, code) is kind


def test_a_failed_operation_is_judged_by_its_code() -> None:
    assert kind_of_failure("ZonalAllocationFailed") is FaultKind.CAPACITY
    assert kind_of_failure("ImageNotFound") is FaultKind.REFUSED


def test_an_instance_view_is_read_by_its_codes() -> None:
    view = parse_instance_view(
        {
            "vmAgent": {"statuses": [{"code": "ProvisioningState/succeeded"}]},
            "statuses": [
                {"code": "ProvisioningState/failed/AllocationFailed", "message": "no room"},
                {"code": "PowerState/deallocated"},
            ],
        }
    )
    assert (view.power, view.provisioning, view.agent_ready) == ("deallocated", "failed", True)
    assert view.fault is not None
    assert (view.fault.code, view.fault.kind) == ("AllocationFailed", FaultKind.CAPACITY)
    empty = parse_instance_view({})
    assert (empty.power, empty.agent_ready, empty.fault) == (None, False, None)


def test_ids_are_read_in_any_case() -> None:
    text = "/SUBSCRIPTIONS/s/resourcegroups/G/providers/microsoft.NETWORK/loadbalancers/x-lb"
    assert parse_id(text) == ResourceRef(ResourceType.LOAD_BALANCER, "G", "x-lb")
    assert parse_id(text + "/probes/ready") is None
    extension = ResourceRef(ResourceType.VM_EXTENSION, "G", "x-a/bootstrap")
    assert parse_id(extension.id("S").upper().replace("X-A", "x-a").replace("BOOTSTRAP", "bootstrap")) == extension
    assert extension.id("s").endswith("/Microsoft.Compute/virtualMachines/x-a/extensions/bootstrap")
    assert parse_id("/subscriptions/s/resourceGroups/G") == ResourceRef(ResourceType.GROUP, "G", "G")
    assert parse_id("/subscriptions/s/resourceGroups/G/providers/Microsoft.KeyVault/vaults/v") is None


class TestReadiness:
    def states(self, **changes: Any) -> dict[Any, Any]:
        a = node_state("c", "a", role=Role.PRIM)
        b = node_state("c", "b", role=Role.SECOND, **changes)
        return {"a": a, "b": b}

    def test_one_primary_and_one_secondary(self) -> None:
        assert readiness.replication(self.states(), NOW, 30).ready

    def test_not_while_the_secondary_resynchronises(self) -> None:
        found = readiness.replication(self.states(phase=Phase.TRANSIENT), NOW, 30)
        assert not found.ready
        assert "node b: SECOND transient" in found.message

    def test_an_old_heartbeat_says_nothing(self) -> None:
        later = NOW + timedelta(seconds=31)
        assert not readiness.replication(self.states(), later, 30).ready
        assert readiness.configuration(MIRROR_NODES, self.states(), 99, later, 30).ready

    def test_a_living_node_must_fetch(self) -> None:
        assert not readiness.configuration(MIRROR_NODES, self.states(), 2, NOW, 30).ready
        assert readiness.configuration(MIRROR_NODES, self.states(), 1, NOW, 30).ready


class TestConfiguration:
    def test_names_the_peer_and_the_witness(self) -> None:
        cluster = record("pay")
        store = memory_store(MemoryRows(), MemoryReconcileQueue(Clock()))
        access = store.witness.access(cluster.id, NOW)
        a = node_configuration(cluster, "a", witness=access, now=NOW)
        b = node_configuration(cluster, "b", witness=access, now=NOW)
        assert (a.address, a.peer.name, a.peer.addresses) == ("10.0.0.4", "b", ("10.0.0.5",))
        assert (b.address, b.peer.addresses) == ("10.0.0.5", ("10.0.0.4",))
        assert a.version == b.version
        assert a.witness.partition_key == cluster.id

    def test_the_version_grows_with_changes_and_with_renewals_only(self) -> None:
        cluster = record("pay")
        first = configuration_version(cluster, NOW)
        assert configuration_version(cluster, NOW + timedelta(days=1)) == first
        renewed = configuration_version(cluster, NOW + timedelta(days=15))
        assert renewed > first
        changed = cluster.model_copy(update={"generation": 2})
        assert configuration_version(changed, NOW) > renewed


class TestImages:
    def test_a_near_miss_is_named(self) -> None:
        with pytest.raises(ImageError, match="did you mean 'debian-12'") as caught:
            supported_image("debian12", "linux")
        assert caught.value.code == "UnknownImage"

    def test_the_operating_system_must_fit(self) -> None:
        with pytest.raises(ImageError, match="use one of windows-2022, windows-2025") as caught:
            supported_image("debian-12", "windows")
        assert caught.value.code == "ImageOperatingSystemMismatch"


class TestOverlay:
    def test_an_unmentioned_value_is_kept_and_no_difference(self) -> None:
        existing = {"a": 1, "b": {"c": 2, "d": 3}}
        assert not differs(existing, {"b": {"c": 2}})
        assert overlay(existing, {"b": {"c": 4}}) == {"a": 1, "b": {"c": 4, "d": 3}}

    def test_none_means_absent(self) -> None:
        assert differs({"a": {"b": 1}}, {"a": None})
        assert not differs({}, {"a": None})
        assert overlay({"a": {"b": 1}, "c": 1}, {"a": None}) == {"c": 1}

    def test_what_overlay_made_no_longer_differs(self) -> None:
        existing = {
            "zones": ["2", "1"],
            "pools": [{"id": "/subscriptions/S/A"}],
            "rules": [{"name": "old"}, {"name": "Keep", "id": "x", "port": 1}],
        }
        wanted = {"zones": ["1", "3"], "pools": [{"id": "/subscriptions/s/b"}], "rules": [{"name": "keep", "port": 2}]}
        assert differs(existing, wanted)
        merged = overlay(existing, wanted)
        assert not differs(merged, wanted)
        assert merged["rules"] == [{"name": "keep", "id": "x", "port": 2}]

    def test_references_and_zones_are_sets(self) -> None:
        assert not differs({"z": ["2", "1"]}, {"z": ["1", "2"]})
        assert not differs({"p": [{"id": "/Subscriptions/X"}]}, {"p": [{"id": "/subscriptions/x"}]})
        assert differs({"p": [{"id": "/a"}, {"id": "/b"}]}, {"p": [{"id": "/a"}]})
