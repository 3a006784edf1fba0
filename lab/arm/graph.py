"""Who refers to whom: resources name each other by id, at any depth of their bodies.

One walk serves everything that depends on it: "the referenced resource must exist", "a resource in use cannot be
deleted", the back references Azure shows (a pool's `backendIPConfigurations`, a subnet's `ipConfigurations`), and what
has to be made physical again when something else changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lab.arm.ids import ResourceId, parse_resource_id, same
from lab.arm.state import State

# Arrays whose elements are resources of their own, with an id below the parent's. The name of the array is also the
# path segment of the id: …/loadBalancers/lb/probes/p.
CHILD_ARRAYS = frozenset(
    {
        "subnets",
        "securityRules",
        "ipConfigurations",
        "frontendIPConfigurations",
        "backendAddressPools",
        "probes",
        "loadBalancingRules",
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    source: str  # id of the element that holds the reference (…/networkInterfaces/n/ipConfigurations/c)
    owner: str  # id of the top-level resource it belongs to
    property: str  # "publicIPAddress", "subnet", "managedDisk"…
    target: str  # id it names


def references(owner: str, wish: dict[str, Any]) -> Iterator[Reference]:
    """Every reference in a checked body, references to the resource's own children included."""
    yield from _walk(wish["properties"], owner, owner, "properties")


def _walk(value: Any, owner: str, source: str, name: str) -> Iterator[Reference]:
    if isinstance(value, dict):
        target = value.get("id")
        if isinstance(target, str):
            yield Reference(source, owner, name, target)
        for key, inner in value.items():
            yield from _walk(inner, owner, source, key)
    elif isinstance(value, list):
        for element in value:
            child = name in CHILD_ARRAYS and isinstance(element, dict) and "name" in element
            yield from _walk(element, owner, f"{source}/{name}/{element['name']}" if child else source, name)


def children(wish: dict[str, Any], array: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = wish["properties"].get(array) or []
    return found


def exists(state: State, target: ResourceId, extra: tuple[str, dict[str, Any]] | None = None) -> bool:
    """Whether a resource or child element is there; `extra` = (id, wish) of the resource being written."""
    parent = str(target.parent)
    if extra is not None and same(extra[0], parent):
        wish = extra[1]
    else:
        resource = state.find(parent)
        if resource is None:
            return False
        wish = resource.wish
    if len(target.path) == 1:
        return True
    array = next((a for a in CHILD_ARRAYS if same(a, target.path[1][0])), None)
    return array is not None and any(same(child["name"], target.name) for child in children(wish, array))


def referrers(state: State, target: str, *, below: bool = False) -> list[Reference]:
    """References of other resources to `target` (with `below`: or to a child element of it)."""
    key, owner_key = target.lower(), str(parse_resource_id(target).parent).lower()
    found = []
    for resource in state.resources.values():
        if resource.id.lower() == owner_key:
            continue
        for reference in references(resource.id, resource.wish):
            named = reference.target.lower()
            if named == key or (below and named.startswith(key + "/")):
                found.append(reference)
    return found
