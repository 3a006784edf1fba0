"""What a running agent takes of a new configuration at once, and what needs a new beginning. Pure.

Rule: all or nothing. A change of `LIVE` fields only is in force at once; if one field needs a new beginning, the
whole configuration waits for it, because fields belong together (a checker of a port that the application does not
listen on yet would trip). `failover` and the witness's signature are taken at once in any case: they stand for
themselves. A rollout gives the nodes their new beginning one after the other: the replica first, then a swap.
`TAKING` names every field, checked by a test; docs/upgrade.md shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pydantic import BaseModel


class Taking(StrEnum):
    LIVE = "at once"
    RESTART = "by a new beginning of each node, the replica first, with one swap"
    FIXED = "cannot change"


_GROUPS: Final = ("application", "application.mirror", "timing")

TAKING: Final[dict[str, Taking]] = {
    "version": Taking.LIVE,
    "cluster_name": Taking.FIXED,
    "cluster_id": Taking.FIXED,
    "node": Taking.FIXED,
    "address": Taking.FIXED,
    "peer": Taking.FIXED,
    "witness": Taking.LIVE,
    "failover": Taking.LIVE,
    # Only the very first record of a cluster is made from it.
    "default_primary": Taking.LIVE,
    "application.name": Taking.RESTART,
    "application.start_prim": Taking.RESTART,
    "application.stop_prim": Taking.RESTART,
    "application.prepare": Taking.RESTART,
    # Installed when a VM is made; on a standing one `prepare` runs again and may install them.
    "application.packages": Taking.RESTART,
    "application.files": Taking.RESTART,
    "application.environment": Taking.RESTART,
    # Their modes; other directories are refused by the control plane, since both nodes must agree on them.
    "application.replicated_paths": Taking.RESTART,
    "application.mirror.slow_replica": Taking.RESTART,
    "application.mirror.resync": Taking.RESTART,
    "application.checkers": Taking.LIVE,
    "application.service_ports": Taking.RESTART,
    "application.start_timeout_s": Taking.RESTART,
    "application.stop_timeout_s": Taking.RESTART,
    "application.restart_limit": Taking.RESTART,
    "application.restart_window_s": Taking.RESTART,
    # The promise between the nodes is made of these: a node changes them only while it promises nothing and is
    # promised nothing.
    "timing.heartbeat_s": Taking.RESTART,
    "timing.suspect_s": Taking.RESTART,
    "timing.promise_s": Taking.RESTART,
    "timing.margin_s": Taking.RESTART,
    "timing.witness_deadline_s": Taking.RESTART,
    "timing.probe_interval_s": Taking.RESTART,
    "timing.probe_threshold": Taking.RESTART,
    "timing.control_plane_heartbeat_s": Taking.LIVE,
}


def changed_fields(old: BaseModel, new: BaseModel) -> tuple[str, ...]:
    """Dotted names, in the order of the model, of what differs."""
    return tuple(_changed(old, new, ""))


def needs_new_beginning(old: BaseModel, new: BaseModel) -> tuple[str, ...]:
    """The changed fields that a running agent cannot take; a field this release does not know is one of them."""
    return tuple(name for name in changed_fields(old, new) if TAKING.get(name) is not Taking.LIVE)


def _changed(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(new).model_fields:
        before, after = getattr(old, name, None), getattr(new, name)
        if before == after:
            continue
        path = f"{prefix}{name}"
        if path in _GROUPS and isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changed(before, after, f"{path}.")
        else:
            yield path
