"""A dry run: every change the reconciler would make in Azure for a plan, found by reading and comparing only.

The very specs that create and update a cluster are asked for their bodies, so the preview and the real thing cannot
differ in what they compare. Guarantee: nothing is written. Limits: Azure's own refusals (quota, capacity, policy, an
address that is taken) show only when it is asked to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from shared.azure.ports import Arm
from shared.azure.resources import Body, ResourceRef
from shared.model.operation import ErrorDetail
from shared.provisioning.overlay import differs
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.cluster import cluster_specs
from shared.provisioning.specs.spec import Spec, SpecError, writable

_AT_ONCE: Final = 4
MAX_VALUE_CHARS: Final = 300


class ChangeAction(StrEnum):
    """`refused`: the wanted state cannot be reached from what is there."""

    CREATE = "create"
    UPDATE = "update"
    NONE = "none"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Difference:
    """One property: `path` as in the ARM body, children of a list by name; None: not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Change:
    ref: ResourceRef
    action: ChangeAction
    brought: bool
    differences: tuple[Difference, ...] = ()
    problem: ErrorDetail | None = None


async def preview(arm: Arm, plan: ClusterPlan) -> tuple[Change, ...]:
    """In the order of the reconciler. Raises ArmError when ARM does not answer for a resource."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(spec: Spec) -> Change:
        async with gate:
            return change(spec, await arm.get(spec.ref))

    return tuple(await asyncio.gather(*(look(spec) for spec in cluster_specs(plan))))


def change(spec: Spec, existing: Body | None) -> Change:
    """What would be done with one resource. Pure."""
    if existing is None and not spec.creatable:
        return Change(spec.ref, ChangeAction.CREATE, brought=False)  # its body needs a boot document, which has a token
    try:
        body = spec.parameters(existing)
    except SpecError as error:
        detail = ErrorDetail(code=error.code, message=str(error), target=error.target)
        return Change(spec.ref, ChangeAction.REFUSED, spec.brought, problem=detail)
    if body is None:
        return Change(spec.ref, ChangeAction.NONE, spec.brought)
    if existing is None:
        return Change(spec.ref, ChangeAction.CREATE, spec.brought)
    return Change(spec.ref, ChangeAction.UPDATE, spec.brought, tuple(differences(existing, body)))


def differences(existing: Mapping[str, Any], body: Mapping[str, Any]) -> list[Difference]:
    """What the body to be sent changes of the resource as ARM returned it, leaf by leaf."""
    return _differences(writable(existing), body, ())


def _differences(existing: Any, wanted: Any, path: tuple[str, ...]) -> list[Difference]:
    # The plain path is what `differs` knows (case of locations and ids); children of lists have one without brackets.
    plain = tuple(part.partition("[")[0] for part in path)
    if isinstance(wanted, Mapping) and isinstance(existing, Mapping):
        found: list[Difference] = []
        for key in sorted(wanted.keys() | existing.keys()):
            found += _differences(existing.get(key), wanted.get(key), (*path, key))
        return found
    if isinstance(wanted, list) and _named(wanted) and (existing is None or isinstance(existing, list)):
        before = {str(child.get("name")): child for child in existing or []}
        after = {str(child.get("name")): child for child in wanted}
        found = []
        for name in sorted(before.keys() | after.keys()):
            place = (*path[:-1], f"{path[-1]}[{name}]")
            if name in before and name in after:
                found += _differences(before[name], after[name], place)
            else:
                found.append(Difference(".".join(place), _shown(before.get(name)), _shown(after.get(name))))
        return found
    if not differs(existing, wanted, path=plain):
        return []
    return [Difference(".".join(path), _shown(existing), _shown(wanted))]


def _named(children: list[Any]) -> bool:
    return bool(children) and all(isinstance(child, Mapping) and "name" in child for child in children)


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
