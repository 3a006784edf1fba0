"""Puts the status of an engine together from its parts, a few times a second and from any thread.

The counters belong to one role of the node: they begin anew when it becomes primary or replica.
"""

from __future__ import annotations

import threading

from mirror_agent.mirror.config import MirrorConfig
from mirror_agent.mirror.counters import Counters
from mirror_agent.mirror.listener import ReplicaListener
from mirror_agent.mirror.primary import Primary
from mirror_agent.mirror.state import StateStore
from mirror_agent.mirror.status import MirrorStatus, VerifyStatus


class Snapshot:
    """One per engine."""

    def __init__(self, config: MirrorConfig, state: StateStore) -> None:
        self._config = config
        self._state = state
        self._lock = threading.Lock()
        self._role: object = None
        self._counters = Counters()

    def take(self, mode: str, error: str | None, primary: Primary | None, door: ReplicaListener | None) -> MirrorStatus:
        with self._lock:
            role = primary or door
            if role is not self._role:
                self._role, self._counters = role, Counters()
            if primary is not None:
                return self._of_primary(mode, error, primary)
            if door is not None:
                return self._of_replica(mode, error, door)
        return MirrorStatus(
            mode=mode, epoch=self._epoch, verify=self._verify(), inconsistent=self._state.inconsistent, error=error
        )

    @property
    def _epoch(self) -> int:
        return self._state.generation.epoch

    def _of_replica(self, mode: str, error: str | None, door: ReplicaListener) -> MirrorStatus:
        session = door.session
        applied, applied_bytes = (0, 0) if session is None else session.position
        lost = "lost" if door.had_session else "none"
        counters = self._counters
        return MirrorStatus(
            mode=mode,
            epoch=self._epoch,
            link=lost if session is None else session.link,
            peer_heard_age_s=door.heard_age_s(),
            operations=applied,
            operations_per_s=counters.operations.of(applied),
            replicated_bytes=applied_bytes,
            replicated_bytes_per_s=counters.bytes.of(applied_bytes),
            verify=self._verify(),
            resync_rule=door.resync_rule,
            quarantine_full=door.quarantine_full,
            inconsistent=self._state.inconsistent,
            error=error or door.error,
        )

    def _of_primary(self, mode: str, error: str | None, primary: Primary) -> MirrorStatus:
        connector, outlet, counters = primary.connector, primary.outlet, self._counters
        stream = connector.stream
        if stream is not None:
            counters.latencies.take(stream.latencies_ms)
        sent = counters.total_bytes(0 if stream is None else stream.sent_bytes)
        dirty_files, dirty_bytes = primary.tracker.dirty() or (None, None)
        progress = connector.progress if connector.link == "resync" else None
        return MirrorStatus(
            mode=mode,
            epoch=self._epoch,
            link=connector.link,
            acknowledging="parked" if outlet.parked else "paired" if outlet.paired else "solo",
            peer_heard_age_s=connector.heard_age_s(),
            operations=outlet.operations,
            operations_per_s=counters.operations.of(outlet.operations),
            replicated_bytes=sent,
            replicated_bytes_per_s=counters.bytes.of(sent),
            in_flight_bytes=0 if stream is None else stream.in_flight_bytes,
            ring_bytes=self._config.limits.ring_bytes,
            ack_latency_ms_p50=counters.latencies.percentile_ms(50),
            ack_latency_ms_p99=counters.latencies.percentile_ms(99),
            ack_latency=counters.latencies.status(),
            dirty_files=dirty_files,
            dirty_bytes=dirty_bytes,
            resync_done_bytes=None if progress is None else progress.done_bytes,
            resync_total_bytes=None if progress is None else progress.total_bytes,
            resync_remaining_s=None if progress is None else progress.remaining_s,
            **connector.resync_facts(),
            replica_rule=connector.peer.rule,
            replica_left_out_s=round(connector.peer.left_out_s(), 1),
            replica_taken_out=connector.peer.taken_out,
            verify=self._verify(primary),
            inconsistent=self._state.inconsistent,
            error=error or connector.error,
        )

    def _verify(self, primary: Primary | None = None) -> VerifyStatus:
        last = self._state.verified.last
        progress = None if primary is None else primary.verification.progress
        ended = VerifyStatus() if last is None else VerifyStatus(
            outcome=last.outcome,
            ended_utc=last.ended_utc,
            differences=last.differences,
            repaired=last.repaired,
            reason=last.reason,
        )  # fmt: skip
        if primary is None or progress is None:
            return ended
        return VerifyStatus(
            running=True,
            pass_number=progress.pass_number,
            entries=progress.entries,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            found=progress.found,
            running_s=round(primary.verification.running_s, 1),
            outcome=ended.outcome,
            ended_utc=ended.ended_utc,
            differences=ended.differences,
            repaired=ended.repaired,
            reason=ended.reason,
        )
