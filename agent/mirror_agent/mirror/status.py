"""What an engine says about itself: the one snapshot that supervisor, heartbeat and console read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


class MirrorError(Exception):
    """The engine could not do what it was asked; the message names the step, the place and the remedy."""


@dataclass(frozen=True)
class MirrorStatus:
    """State of one engine at one moment.

    mode: "stopped" | "primary" | "replica" | "failed".
    link: "none" | "connecting" | "resync" | "live" | "lost"; live = the replica is identical and in the stream.
    acknowledging (primary): "solo" = acknowledges without the peer, "paired" = every acknowledgement needs the peer,
    "parked" = paired but the link is not live, so mutating calls wait unanswered; otherwise "none".
    peer_heard_age_s: age of the last bytes heard from the peer on the stream (frames, acknowledgements, heartbeats
    every 0.5 s), None before the first.
    """

    mode: str = "stopped"
    epoch: int = 0
    link: str = "none"
    acknowledging: str = "none"
    peer_heard_age_s: float | None = None
    operations: int = 0
    replicated_bytes: int = 0
    in_flight_bytes: int = 0
    ack_latency_ms_p50: float | None = None
    ack_latency_ms_p99: float | None = None
    resync_done_bytes: int | None = None
    resync_total_bytes: int | None = None
    inconsistent: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
