"""What belongs to one kind of cluster only: a mirror's replication, a farm's number of nodes.

A field that would have no effect is refused rather than ignored, with the value, the place and the remedy: who asks
for a farm with replicated directories believes in a guarantee that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mirror_agent.contract import MIRROR_NODES, ClusterKind, NodeName, Timing, misplaced

if TYPE_CHECKING:
    from shared.model.cluster_spec import ClusterSpec

# Of a farm's timing these mean something: the rest is the agreement of two nodes about who serves.
_FARM_TIMING: Final = frozenset({"control_plane_heartbeat_s", "probe_interval_s", "probe_threshold"})


def other(node: NodeName) -> NodeName:
    """The other node of a mirror."""
    return "b" if node == "a" else "a"


def misfits(spec: ClusterSpec) -> Iterator[tuple[str, str]]:
    """(target, reason with remedy) of every field that a cluster of this kind cannot have."""
    for field, reason in misplaced(spec.kind, spec.application):
        yield f"application.{field}", reason
    yield from _of_a_mirror(spec) if spec.kind is ClusterKind.MIRROR else _of_a_farm(spec)


def _of_a_mirror(spec: ClusterSpec) -> Iterator[tuple[str, str]]:
    if (count := spec.compute.nodes) != len(MIRROR_NODES):
        yield "compute.nodes", f"a mirror has 2 nodes, not {count}; leave the field out, or ask for kind 'farm'"
    if spec.default_primary is not None and spec.default_primary not in MIRROR_NODES:
        yield "defaultPrimary", f"{spec.default_primary!r} is no node of a mirror; give 'a' or 'b'"
    if spec.minimum_healthy is not None:
        reason = (
            f"{spec.minimum_healthy}: only a farm has a minimum of healthy nodes; remove it, or ask for kind 'farm'"
        )
        yield "minimumHealthy", reason


def _of_a_farm(spec: ClusterSpec) -> Iterator[tuple[str, str]]:
    if spec.default_primary is not None:
        reason = f"{spec.default_primary!r}: every node of a farm serves; remove it, or ask for kind 'mirror'"
        yield "defaultPrimary", reason
    if not spec.failover:
        yield "failover", "false: a farm has no failover to switch off; remove it, or ask for kind 'mirror'"
    usual = Timing()
    for name in Timing.model_fields:
        if name not in _FARM_TIMING and (value := getattr(spec.timing, name)) != getattr(usual, name):
            alias = Timing.model_fields[name].alias or name
            yield f"timing.{alias}", f"{value:g}: times the agreement of a mirror's nodes; remove it, a farm has none"
    if spec.minimum_healthy is not None and spec.minimum_healthy >= (count := spec.compute.nodes):
        yield (
            "minimumHealthy",
            f"{spec.minimum_healthy} of {count} nodes: no node could ever be repaired; give at most {count - 1}",
        )
