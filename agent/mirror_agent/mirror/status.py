"""What an engine says about itself: the one snapshot that supervisor, heartbeat, metrics and console read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


class MirrorError(Exception):
    """The engine could not do what it was asked; the message names the step, the place and the remedy."""


@dataclass(frozen=True)
class VerifyStatus:
    """The verify that is running (`running`, `pass_number` … `remaining_s`) and the last one that ended (the rest).

    `differences` stand until a later verify finds none or a resync has compared everything; both nodes know them.
    outcome: "" before the first | "identical" | "different" | "incomplete".
    """

    running: bool = False
    pass_number: int = 0
    entries: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    found: int = 0
    running_s: float | None = None
    outcome: str = ""
    ended_utc: str = ""
    differences: int = 0
    repaired: int = 0
    reason: str = ""


@dataclass(frozen=True)
class LatencyStatus:
    """How long callers waited for the replica, since this node became primary: a histogram with the bounds of
    `counters.LATENCY_BOUNDS_S` (`counts` has one more, for what is slower), not cumulative."""

    counts: tuple[int, ...] = ()
    sum_s: float = 0.0


@dataclass(frozen=True)
class MirrorStatus:
    """State of one engine at one moment.

    mode: "stopped" | "primary" | "replica" | "failed".
    link: "none" | "connecting" | "resync" | "live" | "lost"; live = the replica is identical and in the stream.
    acknowledging (primary): "solo" = acknowledges without the peer, "paired" = every acknowledgement needs the peer,
    "parked" = paired but the link is not live, so mutating calls wait unanswered; otherwise "none".
    peer_heard_age_s: age of the last bytes heard from the peer on the stream (frames, acknowledgements, heartbeats
    every 0.5 s), None before the first.
    operations, replicated_bytes: since this node took its role; the rates are of the last seconds, as are the
    percentiles. ring_bytes: what in_flight_bytes may reach before callers wait.
    dirty_files, dirty_bytes: noted as changed since the newest checkpoint (see `Tracker.dirty`), None without one.
    resync_rule: the row of `resync_choice.RULES` by which the running or the last resync of this role goes; the
    entries, bytes sent and duration beside it are that one's. checkpoints: made in this role.
    quarantine_full: why a resync here stopped, until one could keep what it had to.
    replica_rule: the row of `peer_health.RULES` that is against the replica now: "slow" while it is, or why it is left
    out for another `replica_left_out_s`; "" if nothing is. replica_taken_out: how often one was, in this role.
    """

    mode: str = "stopped"
    epoch: int = 0
    link: str = "none"
    acknowledging: str = "none"
    peer_heard_age_s: float | None = None
    operations: int = 0
    operations_per_s: float = 0.0
    replicated_bytes: int = 0
    replicated_bytes_per_s: float = 0.0
    in_flight_bytes: int = 0
    ring_bytes: int = 0
    ack_latency_ms_p50: float | None = None
    ack_latency_ms_p99: float | None = None
    ack_latency: LatencyStatus = field(default_factory=LatencyStatus)
    dirty_files: int | None = None
    dirty_bytes: int | None = None
    resync_done_bytes: int | None = None
    resync_total_bytes: int | None = None
    resync_remaining_s: float | None = None
    verify: VerifyStatus = field(default_factory=VerifyStatus)
    resync_rule: str = ""
    resync_done_entries: int = 0
    resync_total_entries: int = 0
    resync_sent_bytes: int = 0
    resync_s: float = 0.0
    checkpoints: int = 0
    quarantine_full: str = ""
    replica_rule: str = ""
    replica_left_out_s: float = 0.0
    replica_taken_out: int = 0
    inconsistent: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def status_from(document: dict[str, Any]) -> MirrorStatus:
    """The inverse of `to_dict` after JSON. Raises TypeError, KeyError."""
    latency = document["ack_latency"]
    return MirrorStatus(
        **{
            **document,
            "ack_latency": LatencyStatus(tuple(latency["counts"]), latency["sum_s"]),
            "verify": VerifyStatus(**document["verify"]),
        }
    )
