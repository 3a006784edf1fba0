"""What every resource type has in common; a type overrides what is particular to it.

A kind is stateless and pure: it reads the state and changes only the body or resource it is given. Making things
physical is `lab.arm.physical`'s affair, requests and operations are the service's.
"""

from __future__ import annotations

import copy
import ipaddress
from typing import Any, ClassVar

from lab.arm.errors import ArmError, invalid_reference, network_format, not_modelled
from lab.arm.graph import Reference, children, exists, references, referrers
from lab.arm.ids import ResourceId, parse_resource_id, same
from lab.arm.state import DELETING, FAILED, SUCCEEDED, Resource, State

MAX_TAGS = 50  # azure-subscription-service-limits: tags per resource


class Kind:
    type: ClassVar[str]
    module: ClassVar[str] = "azure.mgmt.network"
    model: ClassVar[str]
    children: ClassVar[tuple[str, ...]] = ()
    child_models: ClassVar[dict[str, str]] = {}  # child arrays that can be written at their own address
    needs_properties: ClassVar[frozenset[str]] = frozenset()  # child arrays whose elements are nothing without them
    reference_types: ClassVar[dict[str, str]] = {}  # property → type it must name
    not_modelled: ClassVar[frozenset[str]] = frozenset()  # properties that would need a physical effect we lack
    etag: ClassVar[bool] = True
    created_status: ClassVar[int] = 201  # of an accepted PUT of a new resource
    updated_status: ClassVar[int] = 200
    deleted_status: ClassVar[int] = 202

    # --- writing ---------------------------------------------------------------------------------------------------
    def check(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        """Complete `wish` with Azure's defaults and refuse what Azure refuses. Raises `ArmError`."""
        if not wish.get("location"):
            raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
        wish.setdefault("properties", {})
        wish.pop("id", None)
        self._refuse_not_modelled(wish["properties"], "properties")
        for array in self.children:
            self._check_child_names(wish, array)
        self.reduce_references(wish)
        if old is not None and not same(old.location, wish["location"]):
            raise ArmError(
                409,
                "InvalidResourceLocation",
                f"The resource '{rid.name}' already exists in location '{old.location}' in resource group "
                f"'{rid.group}'. A resource with the same name cannot be created in location '{wish['location']}'. "
                "Please select a new resource name.",
            )
        if len(wish.get("tags") or {}) > MAX_TAGS:
            raise ArmError(400, "InvalidTags", f"The maximum number of tags of a resource is {MAX_TAGS}.")
        self.complete(rid, wish, old, state)
        for reference in references(str(rid), wish):
            self._check_reference(reference, wish, state)
        self.validate(rid, wish, old, state)
        if old is not None:
            self._check_removed_children(wish, old, state)

    def reduce_references(self, wish: dict[str, Any]) -> None:
        """A reference may carry the expanded resource, as GET-change-PUT does; only its id counts."""
        for reference in _reference_objects(wish["properties"]):
            for key in [key for key in reference if key != "id"]:
                del reference[key]

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        """Fill in defaults. Must be deterministic: the same body again has to give the same wish."""

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        """Rules that need completed values and existing references."""

    def bare(self, wish: dict[str, Any]) -> dict[str, Any]:
        """The wish as it is kept and compared: without secrets."""
        return wish

    def assign(self, resource: Resource, state: State) -> None:
        """Give what the service gives (GUIDs, addresses); called once more after each change of the wish."""

    # --- reading ---------------------------------------------------------------------------------------------------
    def render(self, resource: Resource, state: State) -> dict[str, Any]:
        """The resource as ARM returns it."""
        rid = resource.rid
        body: dict[str, Any] = {"name": rid.name, "id": resource.id, "type": self.type}
        body |= copy.deepcopy(resource.wish)
        properties = body["properties"]
        properties["provisioningState"] = resource.state
        for array in self.children:
            properties.setdefault(array, [])
            for child in properties[array]:
                child["id"] = f"{resource.id}/{array}/{child['name']}"
                child["type"] = f"{self.type}/{array}"
                child.setdefault("properties", {})["provisioningState"] = resource.state
        self.show(resource, body, state)
        if self.etag:
            tag = f'W/"{resource.etag_of(body)}"'
            body["etag"] = tag
            for array in self.children:
                for child in properties[array]:
                    child["etag"] = tag
        return body

    def show(self, resource: Resource, body: dict[str, Any], state: State) -> None:
        """Add what was assigned and what refers back."""

    # --- deleting --------------------------------------------------------------------------------------------------
    def refuse_if_used(self, resource: Resource, state: State) -> None:
        """Raises the `ArmError` Azure gives for a resource in use."""

    def refuse_removed_child(self, child_id: str, uses: list[Reference]) -> ArmError:
        return network_format("InUseChildCannotBeDeleted", f"{child_id} is in use by {uses[0].source}.")

    # --- common checks ---------------------------------------------------------------------------------------------
    def _refuse_not_modelled(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in self.not_modelled and inner not in ([], {}, False, "None"):
                    raise not_modelled(f"Property '{key}'", f"{path}.{key}")
                self._refuse_not_modelled(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self._refuse_not_modelled(inner, f"{path}[{index}]")

    def _check_child_names(self, wish: dict[str, Any], array: str) -> None:
        seen = set()
        for index, child in enumerate(children(wish, array)):
            path = f"properties.{array}[{index}]"
            name = child.get("name")
            if not name:
                raise network_format("MissingJsonProperty", f"Required property 'name' not found in JSON. '{path}'.")
            if name.lower() in seen:
                raise network_format("DuplicateResourceName", f"Found duplicate name '{name}' at '{path}'.")
            seen.add(name.lower())
            if array in self.needs_properties and "properties" not in child:
                raise network_format(
                    "MissingJsonProperty", f"Required property 'properties' not found in JSON. '{path}'."
                )
            child.pop("id", None)
            child.setdefault("properties", {})

    def _check_reference(self, reference: Reference, wish: dict[str, Any], state: State) -> None:
        target = parse_resource_id(reference.target, target=reference.property)
        wanted = self.reference_types.get(reference.property)
        if wanted is not None and not same(target.type, wanted):
            raise ArmError(
                400,
                "LinkedInvalidPropertyId",
                f"Property id '{reference.target}' at path '{reference.property}' is invalid: it names a "
                f"{target.type}, expected is a {wanted}.",
            )
        if not exists(state, target, (reference.owner, wish)):
            raise self.missing_reference(reference)
        parent = state.find(str(target.parent))
        if parent is None or same(parent.id, reference.owner):
            return
        if not same(parent.location, wish["location"]):
            raise invalid_reference(reference.target, reference.source)
        if parent.state != SUCCEEDED:
            raise not_provisioned(reference, parent)

    def missing_reference(self, reference: Reference) -> ArmError:
        return invalid_reference(reference.target, reference.source)

    def _check_removed_children(self, wish: dict[str, Any], old: Resource, state: State) -> None:
        for array in self.children:
            kept = {child["name"].lower() for child in children(wish, array)}
            for child in children(old.wish, array):
                if child["name"].lower() in kept:
                    continue
                child_id = f"{old.id}/{array}/{child['name']}"
                uses = referrers(state, child_id)
                if uses:
                    raise self.refuse_removed_child(child_id, uses)


def not_provisioned(reference: Reference, target: Resource) -> ArmError:
    """A referenced network resource must be settled. Updating: retryable 429; Failed: 400 until it is repaired."""
    text = (
        f"Cannot proceed with operation because resource {reference.target} used by resource {reference.source} is not "
        f"in Succeeded state. Resource is in {target.state} state and the last operation that updated/is updating the "
        "resource is PutOperation."
    )
    if target.state in (FAILED, DELETING):
        return ArmError(400, "ReferencedResourceNotProvisioned", text)
    return ArmError(
        429, "RetryableError", "A retryable error occurred.", details=(("ReferencedResourceNotProvisioned", text),)
    )


def _reference_objects(value: Any) -> list[dict[str, Any]]:
    """Objects that name another resource by id (children of the resource itself have lost their id before)."""
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        for inner in value.values():
            found += [inner] if isinstance(inner, dict) and "id" in inner else _reference_objects(inner)
    elif isinstance(value, list):
        for inner in value:
            found += [inner] if isinstance(inner, dict) and "id" in inner else _reference_objects(inner)
    return found


def check_prefix(text: str, what: str) -> ipaddress.IPv4Network:
    """An IPv4 prefix in canonical form, else `ArmError` InvalidAddressPrefixFormat."""
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ArmError(
            400,
            "InvalidAddressPrefixFormat",
            f"Address prefix {text} of resource {what} is not formatted correctly: {error}.",
        ) from error
