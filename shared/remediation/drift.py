"""Drift: what of a cluster's resources is not as its spec wants it, found by the reconciler's own comparison.

The specs that create a cluster are asked again, each for its own resource: a body to PUT means "changed", no resource
means "missing", a refusal means that a person must decide. Nothing is written here; repair is an ordinary update
operation of the reconciler (`managementPolicy: full`), or nothing (`observe`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

from shared.azure.faults import ArmError
from shared.azure.ports import Arm
from shared.model.cluster import ClusterRecord
from shared.model.remediation import Deviation
from shared.model.remediation_policy import ManagementPolicy
from shared.provisioning.images import ImageError
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.records import plan_of
from shared.provisioning.specs.cluster import cluster_specs
from shared.provisioning.specs.spec import Spec, SpecError
from shared.remediation.model import Policy
from shared.remediation.rules import sentence

MISSING: Final = "missing"
CHANGED: Final = "changed"
REFUSED: Final = "refused"
MAX_SHOWN: Final = 8
_AT_ONCE: Final = 4


class DriftUnknown(Exception):
    """ARM did not answer for every resource: nothing is concluded from a part of them."""


async def find_drift(
    arm: Arm, record: ClusterRecord, *, subscription_id: str, control_plane_addresses: tuple[str, ...]
) -> tuple[Deviation, ...]:
    """Raises DriftUnknown."""
    try:
        plan = plan_of(record, subscription_id=subscription_id, control_plane_addresses=control_plane_addresses)
    except ImageError as error:
        raise DriftUnknown(str(error)) from error
    gate = asyncio.Semaphore(_AT_ONCE)

    async def compare(spec: Spec) -> Deviation | None:
        async with gate:
            try:
                existing = await arm.get(spec.ref)
            except ArmError as error:
                raise DriftUnknown(f"{spec.ref}: {error.fault.code}") from error
        return deviation(plan, spec, existing)

    found = await asyncio.gather(*(compare(spec) for spec in cluster_specs(plan)))
    return tuple(entry for entry in found if entry is not None)


def deviation(plan: ClusterPlan, spec: Spec, existing: dict[str, object] | None) -> Deviation | None:
    """What is wrong with one resource; None if nothing is."""
    name = str(spec.ref)
    if existing is None:
        return Deviation(resource=name, kind=MISSING, repairable=not spec.brought, sentence=f"{name} is gone")
    try:
        body = spec.parameters(existing)
    except SpecError as error:
        return Deviation(resource=name, kind=REFUSED, repairable=False, sentence=str(error))
    if body is None:
        return None
    return Deviation(resource=name, kind=CHANGED, repairable=True, sentence=f"{name} differs from the spec")


def judge(deviations: tuple[Deviation, ...], record: ClusterRecord, policy: Policy, now: datetime) -> tuple[str, str]:
    """(rule, sentence): what is done about the drift of one cluster. Pure."""
    names = ", ".join(entry.resource for entry in deviations[:MAX_SHOWN])
    if not deviations:
        return "as-wanted", sentence("as-wanted")
    if not any(entry.repairable for entry in deviations):
        return "drift-not-repairable", sentence("drift-not-repairable", names=names)
    if record.spec.management_policy is ManagementPolicy.OBSERVE:
        return "drift-reported", sentence("drift-reported", names=names)
    why = _reason_to_wait(policy, now)
    if why is not None:
        return "drift-waits", sentence("drift-waits", why=why)
    if not all(entry.repairable for entry in deviations):
        # An update would stop at the one that cannot be changed, and nobody would know which of the others it reached.
        return "drift-not-repairable", sentence("drift-not-repairable", names=names)
    return "drift-repaired", sentence("drift-repaired", names=names)


def _reason_to_wait(policy: Policy, now: datetime) -> str | None:
    if policy.changing:
        return "another operation is at work"
    if policy.wishes.pause_reasons:
        return f"it is paused ({'; '.join(policy.wishes.pause_reasons)})"
    if any(window.begins <= now < window.ends for window in policy.wishes.maintenance):
        return "a maintenance window is open"
    return None
