"""What every resource spec answers: the body to PUT, or None when there is nothing to do.

After cluster-api-provider-azure's `Parameters(existing)`. Guarantees:
- a resource that does not carry our cluster's ownership tags is never changed or deleted: `NotOwned`;
- the answer for an existing resource is the existing body with the wanted values laid over it, so what Azure or other
  systems set is kept, and None if it holds all wanted values already;
- a difference in a property that cannot be changed in place is an error (`ImmutableProperty`), never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.azure.resources import Body, ResourceRef
from shared.provisioning.overlay import Path, differs, overlay
from shared.provisioning.plan import TAG_CLUSTER_ID, TAG_OWNED, Owner


class SpecError(Exception):
    """The wanted state cannot be reached; `code` goes into the operation's error."""

    def __init__(self, code: str, target: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.target = target


class NotOwned(SpecError):
    def __init__(self, ref: ResourceRef, owner: Owner, tags: Mapping[str, str]) -> None:
        theirs = tags.get(TAG_CLUSTER_ID)
        why = f"it belongs to the cluster with id {theirs}" if theirs else "it does not carry the tags of this system"
        super().__init__(
            "ResourceNotOwned",
            str(ref),
            f"{ref} in resource group {ref.group!r} exists, but {why} (wanted: {TAG_CLUSTER_ID}={owner.cluster_id}); "
            "it is left untouched: rename or remove it, or choose another cluster name",
        )


class ImmutableProperty(SpecError):
    def __init__(self, ref: ResourceRef, path: Path, existing: Any, wanted: Any) -> None:
        super().__init__(
            "ImmutableProperty",
            str(ref),
            f"{'.'.join(path)} of {ref} is {existing!r} and cannot be changed in place to {wanted!r}; "
            "keep the old value, or delete the cluster and create it anew",
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """A resource as wanted. `needs`: resources that must be Succeeded first (their ids are in the body)."""

    ref: ResourceRef
    owner: Owner
    wanted: Body
    needs: frozenset[ResourceRef] = frozenset()
    keep_foreign: frozenset[Path] = frozenset()
    """Lists of children in which unknown children belong to others and stay."""
    immutable: tuple[Path, ...] = ()
    create_only: tuple[Path, ...] = ()
    """Sent when the resource is created, never compared or sent again."""
    creatable: bool = True
    """False: the body lacks what only creation needs (a boot document with a fresh token)."""
    once: bool = False
    """True: writing it makes Azure do something, so what is there is written again, whole, by `force` alone."""
    brought: bool = False
    """True: somebody else's resource that the cluster uses; see `specs.brought`."""

    def parameters(self, existing: Mapping[str, Any] | None, *, force: bool = False) -> Body | None:
        """The body to PUT, or None. `force`: also when nothing differs (the last PUT has failed in Azure).

        Raises NotOwned, ImmutableProperty.
        """
        if existing is None:
            if not self.creatable:
                raise ValueError(f"{self.ref} is not there and cannot be created without its create-only part")
            created: Body = _without_none(self.wanted)
            return created
        require_owned(self.ref, self.owner, existing)
        for path in self.immutable:
            wanted, there = _at(self.wanted, path), _at(existing, path)
            if wanted is not None and differs(there, wanted, path=path):
                raise ImmutableProperty(self.ref, path, there, wanted)
        if self.once:
            return _without_none(self.wanted) if force and self.creatable else None
        update = self.wanted
        for path in self.create_only:
            update = _dropped(update, path)
        if not force and not differs(existing, update, self.keep_foreign):
            return None
        body: Body = overlay(writable(existing), update, self.keep_foreign)
        return body


def owned(owner: Owner, existing: Mapping[str, Any]) -> bool:
    tags = existing.get("tags") or {}
    return tags.get(TAG_OWNED) == "true" and tags.get(TAG_CLUSTER_ID) == owner.cluster_id


def require_owned(ref: ResourceRef, owner: Owner, existing: Mapping[str, Any]) -> None:
    if not owned(owner, existing):
        raise NotOwned(ref, owner, existing.get("tags") or {})


# What ARM adds to every resource; sending it back is allowed but says nothing.
_READ_ONLY = ("id", "name", "type", "etag", "systemData", "managedBy", "resources")
_READ_ONLY_PROPERTIES = ("provisioningState", "resourceGuid", "vmId", "timeCreated", "instanceView", "uniqueId")


def writable(existing: Mapping[str, Any]) -> Body:
    """A resource as ARM returns it, without what is ARM's own."""
    body = {key: value for key, value in existing.items() if key not in _READ_ONLY}
    if isinstance(body.get("properties"), Mapping):
        body["properties"] = {k: v for k, v in body["properties"].items() if k not in _READ_ONLY_PROPERTIES}
    return body


def _at(body: Mapping[str, Any], path: Path) -> Any:
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _dropped(body: Mapping[str, Any], path: Path) -> Body:
    head, *rest = path
    copy = dict(body)
    if not rest:
        copy.pop(head, None)
    elif isinstance(copy.get(head), Mapping):
        copy[head] = _dropped(copy[head], tuple(rest))
    return copy


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_without_none(entry) for entry in value]
    return value
