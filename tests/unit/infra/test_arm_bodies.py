"""Every ARM body we send is what the published specification of its api-version describes, to the last property."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from lab.arm.errors import ArmError
from lab.arm.schema import BodyCheck, model_class
from shared.azure.arm import _GROUPS as CLIENTS
from shared.azure.resources import ResourceType, known_type
from tests.unit.infra.facts import faults, known_types
from tests.unit.infra.sent_bodies import all_sent, sdk_version, sent_by_the_reconciler
from tests.unit.provisioning.test_specs import PLANS, body_of, creating

PACKAGES = {
    "network": "azure.mgmt.network",
    "compute": "azure.mgmt.compute",
    "resource": "azure.mgmt.resource.resources",
}


def test_every_body_is_as_the_specification_says() -> None:
    sent = all_sent()
    assert len(sent) > 100, "most bodies are missing: this checks nothing"
    assert [fault for key, body in sent for fault in faults(key, body)] == []


def test_no_fact_is_left_that_nobody_needs() -> None:
    assert sorted(set(known_types()) - {key for key, _ in all_sent()}) == []


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every property at any depth."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield (*path, name)
            yield from places(value, (*path, name))
    elif isinstance(body, list):
        for index, entry in enumerate(body):
            yield from places(entry, (*path, index))


def misspelt(body: Any, path: tuple[Any, ...]) -> Any:
    """A copy in which the property at `path` has one more letter."""
    changed = copy.deepcopy(body)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1] + "x"] = holder.pop(path[-1])
    return changed


def names_anything(key: str, path: tuple[Any, ...]) -> bool:
    """Whether the property's name is free: a tag, an identity's id, an app setting."""
    fact = known_types()[key]
    for step in path:
        if isinstance(fact, dict) and "{}" in fact:
            return True
        fact = fact["[]"] if isinstance(step, int) else fact[step]
    return False


def test_a_misspelt_property_in_any_body_at_any_depth_is_found() -> None:
    tried = 0
    for key, body in all_sent():
        for path in places(body):
            if isinstance(path[-1], str) and not names_anything(key, path):
                tried += 1
                assert faults(key, misspelt(body, path)), f"{key}: {path} misspelt, and nothing was said"
    assert tried > 500


@pytest.mark.parametrize("kind", list(ResourceType))
def test_a_misspelt_property_is_refused_by_the_model_of_the_sdk_too(kind: ResourceType) -> None:
    client, _, model = CLIENTS[kind]
    check = BodyCheck(kind.value.partition("/")[0]).check
    for key, body in sent_by_the_reconciler():
        if known_type(key.partition("@")[0]) is not kind:
            continue
        check(model_class(PACKAGES[client], model), body)
        for path in places(body):
            free = "protectedSettings" in path[:-1]  # of any shape to the SDK; the facts know its names
            if isinstance(path[-1], str) and not names_anything(key, path) and not free:
                with pytest.raises(ArmError):
                    check(model_class(PACKAGES[client], model), misspelt(body, path))
        return


@pytest.mark.parametrize("kind", list(ResourceType))
def test_nothing_is_lost_on_the_way_through_the_model(kind: ResourceType) -> None:
    """The client serialises the model made of our body: what it does not know would be dropped or sent as it is."""
    client, _, model = CLIENTS[kind]
    models = importlib.import_module(f"{PACKAGES[client]}.models")
    for key, body in sent_by_the_reconciler():
        if known_type(key.partition("@")[0]) is kind:
            assert getattr(models, model)(copy.deepcopy(body)).as_dict(exclude_readonly=True) == body


@pytest.mark.parametrize("made", PLANS)
def test_an_update_sends_nothing_else(made: str) -> None:
    """What Azure showed, with the wanted values laid over it; the client takes out what is read-only."""
    for spec in creating(PLANS[made]()):
        kind = spec.ref.type
        client, _, model = CLIENTS[kind]
        shown = copy.deepcopy(body_of(spec)) | {"id": spec.ref.id("s"), "name": spec.ref.name, "type": kind.value}
        shown.setdefault("properties", {})["provisioningState"] = "Failed"
        update = spec.parameters(shown, force=True)
        assert update is not None
        sent = getattr(importlib.import_module(f"{PACKAGES[client]}.models"), model)(update)
        assert faults(f"{kind.value}@{sdk_version(kind.value)}", sent.as_dict(exclude_readonly=True)) == []


def test_wrong_types_and_values_are_found() -> None:
    key = f"Microsoft.Network/loadBalancers@{sdk_version('Microsoft.Network/loadBalancers')}"
    body = next(body for found, body in sent_by_the_reconciler() if found == key)
    for path, wrong in (
        (("properties", "probes", 0, "properties", "probeThreshold"), "2"),
        (("properties", "probes", 0, "properties", "protocol"), "Ping"),
        (("properties", "loadBalancingRules"), {}),
        (("sku",), "Standard"),
    ):
        changed = copy.deepcopy(body)
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = wrong
        assert faults(key, changed), f"{path} = {wrong!r}"
