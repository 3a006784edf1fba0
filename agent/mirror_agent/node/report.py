"""What the node tells others about itself: heartbeats for the control plane, the probe's body, `mirrorctl` answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mirror_agent import __version__
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import (
    ApplicationState,
    CertificateReport,
    Heartbeat,
    MirrorReport,
    NodeName,
    Phase,
    Role,
    RolloutReport,
    VerifyReport,
)
from mirror_agent.core import model
from mirror_agent.core.model import NO_EPOCH, Epoch, Instant, State, peer_alive, promise_holds
from mirror_agent.mirror.status import MirrorStatus, VerifyStatus
from mirror_agent.node.engine import Engine
from mirror_agent.node.metrics import Scrape
from mirror_agent.node.node import Node
from mirror_agent.node.switches import Switches

MAX_SENTENCE = 500


def mirror_report(status: MirrorStatus) -> MirrorReport:
    return MirrorReport(
        mode=status.mode,
        link=status.link,
        acknowledging=status.acknowledging,
        operations=status.operations,
        replicated_bytes=status.replicated_bytes,
        in_flight_bytes=status.in_flight_bytes,
        ack_latency_ms_p50=status.ack_latency_ms_p50,
        ack_latency_ms_p99=status.ack_latency_ms_p99,
        resync_done_bytes=status.resync_done_bytes,
        resync_total_bytes=status.resync_total_bytes,
        error=status.error,
        operations_per_s=status.operations_per_s,
        replicated_bytes_per_s=status.replicated_bytes_per_s,
        ring_bytes=status.ring_bytes,
        dirty_files=status.dirty_files,
        dirty_bytes=status.dirty_bytes,
        resync_remaining_s=status.resync_remaining_s,
        resync_rule=status.resync_rule,
        resync_done_entries=status.resync_done_entries,
        resync_total_entries=status.resync_total_entries,
        quarantine_full=status.quarantine_full[:MAX_SENTENCE],
        replica_rule=status.replica_rule,
        replica_left_out_s=status.replica_left_out_s,
        verify=verify_report(status.verify),
    )


def verify_report(status: VerifyStatus) -> VerifyReport:
    return VerifyReport(
        running=status.running,
        entries=status.entries,
        done_bytes=status.done_bytes,
        total_bytes=status.total_bytes,
        found=status.found,
        outcome=status.outcome,
        ended_utc=status.ended_utc,
        differences=status.differences,
        repaired=status.repaired,
        reason=status.reason[:MAX_SENTENCE],
    )


def certificate_status(report: CertificateReport | None, now: datetime) -> dict[str, object] | None:
    if report is None:
        return None
    left = datetime.fromisoformat(report.expires_utc) - now
    return {
        "serial": report.serial,
        "expiresUtc": report.expires_utc,
        "expiresInDays": round(left / timedelta(days=1), 1),
        "authoritiesTrusted": len(report.trusted_sha256),
        "renewalFailure": report.failure,
    }


def agent_status(report: RolloutReport | None) -> dict[str, object]:
    """The release that runs, the configuration in force, and the last order of a rolling change."""
    found: dict[str, object] = {"version": __version__}
    return found if report is None else {**found, **report.model_dump(mode="json", by_alias=True)}


class KnownRecord(NamedTuple):
    epoch: Epoch
    primary: model.Node
    in_sync: frozenset[model.Node]


def known_record(state: State) -> KnownRecord | None:
    """The newest witness record that this node knows of: read by itself, or told by the other node.

    A node that has no question of its own reads every `witness_poll_s` only, and is ready, or no longer in sync, by
    the other node's word before. A record of a lower epoch is history.
    """
    record, peer = state.record, state.peer
    if peer.record_epoch > (record.epoch if record else NO_EPOCH):
        return KnownRecord(peer.record_epoch, peer.record_primary, peer.record_in_sync)
    return KnownRecord(record.epoch, record.primary, record.in_sync) if record else None


class Reporter:
    """Reads the node and its parts; changes nothing but its own heartbeat counter."""

    def __init__(
        self,
        node: Node,
        engine: Engine,
        checkers: NodeCheckers,
        *,
        switches: Switches,
        peer_paths: Callable[[], Mapping[str, str]],
        certificate: Callable[[], CertificateReport | None] = lambda: None,
        rollout: Callable[[], RolloutReport | None] = lambda: None,
        control_plane: str = "",
        cluster: str,
        name: NodeName,
        boot_id: str,
        start_id: str,
    ) -> None:
        """`peer_paths`: per address of the peer, why it does not answer there, or "". `control_plane`: its address."""
        self._node = node
        self._engine = engine
        self._checkers = checkers
        self._switches = switches
        self._peer_paths = peer_paths
        self._certificate = certificate
        self._rollout = rollout
        self._control_plane = control_plane
        self._cluster = cluster
        self._name = name
        self._boot_id = boot_id
        self._start_id = start_id
        self._sequence = 0

    def heartbeat(self) -> Heartbeat:
        """The state of this moment for the control plane."""
        self._sequence += 1
        return self._beat()

    def _beat(self) -> Heartbeat:
        state, decision = self._node.state, self._node.decision
        return Heartbeat(
            node=self._name,
            boot_id=self._boot_id,
            agent_start_id=self._start_id,
            sequence=self._sequence,
            sent_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            role=Role(state.role.value),
            phase=Phase(self._node.phase.value),
            epoch=int(state.epoch),
            in_sync=self._in_sync(state),
            exposed_for_s=self._exposed_for_s(state),
            rule=decision.rule if decision else "record-unknown",
            sentence=(decision.sentence if decision else "starting")[:MAX_SENTENCE],
            application=ApplicationState(state.app.value),
            probe_ok=self._node.probe()[0],
            mirror=mirror_report(self._engine.status),
            checkers=self._checkers.reports(),
            restarts_in_window=self._restarts(state),
            failover=state.failover,
            checkers_on=self._switches.checkers.on,
            certificate=self._certificate(),
            rollout=self._rollout(),
        )

    @property
    def now(self) -> Instant:
        return self._node.now

    def mirror(self) -> dict[str, object]:
        """For `mirrorctl mirror status`."""
        state = self._node.state
        return {
            "cluster": self._cluster,
            "node": state.me,
            "role": state.role.value,
            "inSync": list(self._in_sync(state)),
            "exposedForS": self._exposed_for_s(state),
            **mirror_report(self._engine.status).model_dump(by_alias=True),
        }

    def scrape(self) -> Scrape:
        """For the metrics; the heartbeat's number is not used up."""
        state = self._node.state
        return Scrape(
            cluster=self._cluster,
            peer="b" if self._name == "a" else "a",
            peer_alive=peer_alive(state, self._node.now),
            beat=self._beat(),
            mirror=self._engine.status,
        )

    def status(self) -> dict[str, object]:
        """For `mirrorctl status` and the node's console."""
        state, decision, now = self._node.state, self._node.decision, self._node.now
        ok, reason = self._node.probe()
        record = known_record(state)
        return {
            "cluster": self._cluster,
            "node": state.me,
            "role": state.role.value,
            "phase": self._node.phase.value,
            "epoch": int(state.epoch),
            "rule": decision.rule if decision else "",
            "sentence": decision.sentence if decision else "",
            "inSync": list(self._in_sync(state)),
            "exposedForS": self._exposed_for_s(state),
            "application": {
                "state": state.app.value,
                "error": state.app_error,
                "restartsInWindow": self._restarts(state),
            },
            "probe": {"ok": ok, "reason": reason},
            "peer": {
                "name": state.peer_name,
                "alive": peer_alive(state, now),
                "role": state.peer.role.value,
                "phase": state.peer.phase.value,
                "epoch": int(state.peer.epoch),
                "paths": {address: failure or "answers" for address, failure in self._peer_paths().items()},
            },
            "promise": {"held": promise_holds(state, now)},
            "witness": {
                "epoch": int(record.epoch) if record else None,
                "primary": record.primary if record else None,
                "inSync": list(self._in_sync(state)),
                "failure": state.witness.failure,
            },
            "mirror": mirror_report(self._engine.status).model_dump(by_alias=True),
            "checkers": [report.model_dump(by_alias=True) for report in self._checkers.reports()],
            "failover": asdict(self._switches.failover) | {"agreed": self._switches.agreed},
            "checkersSwitch": asdict(self._switches.checkers),
            "trusted": state.durable.trusted,
            "certificate": certificate_status(self._certificate(), datetime.now(UTC)),
            "agent": agent_status(self._rollout()),
            "controlPlane": self._control_plane or "no control plane",
        }

    def why(self) -> dict[str, object]:
        """The last decision: its rule, its sentence and the facts it was taken from."""
        decision = self._node.decision
        if decision is None:
            return {"rule": "", "sentence": "nothing has been decided yet"}
        return {
            "rule": decision.rule,
            "sentence": decision.sentence,
            "role": decision.role.value,
            "phase": decision.phase.value,
            "epoch": int(decision.epoch),
            "actions": [type(action).__name__ for action in decision.actions],
            "facts": self.status(),
            "durable": {name: str(value) for name, value in asdict(self._node.state.durable).items()},
        }

    def _in_sync(self, state: State) -> tuple[NodeName, ...]:
        record = known_record(state)
        if record is None:
            return ()
        return tuple(name for name in ("a", "b") if name in record.in_sync)

    def _exposed_for_s(self, state: State) -> float | None:
        return round(self._node.now - state.exposed_since, 1) if state.exposed_since is not None else None

    def _restarts(self, state: State) -> int:
        now = self._node.now
        return sum(1 for at in state.restarts if now - at < state.restart_window_s)
