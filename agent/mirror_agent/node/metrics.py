"""The metrics of a node: every name, its meaning, and where its value comes from, in one table.

docs/metrics.md is generated from it (`tools/metrics_doc.py`). Names follow Prometheus' conventions: base units,
counters end in `_total`. Every sample carries the labels `cluster` and `node`. A value that is not known has no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent import __version__
from mirror_agent.contract import Heartbeat, NodeName, Role
from mirror_agent.mirror.counters import LATENCY_BOUNDS_S
from mirror_agent.mirror.status import MirrorStatus
from mirror_agent.web.prometheus import Family, Histogram, Sample, Type, family_lines

_LINKS: Final = ("none", "connecting", "resync", "live", "lost")
_ACKNOWLEDGING: Final = ("none", "solo", "paired", "parked")

Value = float | int | bool | None


@dataclass(frozen=True)
class Scrape:
    """What a scrape sees: the heartbeat the control plane would get now, and the engine's status."""

    cluster: str
    peer: NodeName
    peer_alive: bool
    beat: Heartbeat
    mirror: MirrorStatus


@dataclass(frozen=True)
class Metric:
    family: Family
    labels: str
    samples: Callable[[Scrape], Iterable[Sample | Histogram]]


def _one(name: str, sentence: str, value: Callable[[Scrape], Value], kind: Type = Type.GAUGE) -> Metric:
    def samples(scrape: Scrape) -> list[Sample]:
        found = value(scrape)
        return [] if found is None else [Sample({}, float(found))]

    return Metric(Family(f"mirrorplane_{name}", kind, sentence), "", samples)


def _counter(name: str, sentence: str, value: Callable[[Scrape], Value]) -> Metric:
    return _one(name, sentence, value, Type.COUNTER)


def _state(name: str, label: str, words: tuple[str, ...], sentence: str, word: Callable[[Scrape], str]) -> Metric:
    """One sample per word, 1 for the present one."""

    def samples(scrape: Scrape) -> list[Sample]:
        present = word(scrape)
        return [Sample({label: one}, float(one == present)) for one in words]

    return Metric(Family(f"mirrorplane_{name}", Type.GAUGE, sentence), label, samples)


def _latency(scrape: Scrape) -> list[Histogram]:
    told = scrape.mirror.ack_latency
    return [Histogram(LATENCY_BOUNDS_S, told.counts, told.sum_s)] if told.counts else []


def _checkers(scrape: Scrape) -> list[Sample]:
    return [
        Sample({"checker": one.name}, float(one.healthy)) for one in scrape.beat.checkers if one.healthy is not None
    ]


def _verified_at(scrape: Scrape) -> float | None:
    ended = scrape.mirror.verify.ended_utc
    return datetime.fromisoformat(ended).timestamp() if ended else None


def _certificate_ends(scrape: Scrape) -> float | None:
    told = scrape.beat.certificate
    return None if told is None else datetime.fromisoformat(told.expires_utc).timestamp()


METRICS: Final = (
    Metric(
        Family("mirrorplane_agent_info", Type.GAUGE, "Version of the agent; always 1."),
        "version",
        lambda _: [Sample({"version": __version__}, 1.0)],
    ),
    _state("node_role", "role", tuple(role.value for role in Role), "Role of the node.", lambda s: s.beat.role.value),
    _one("node_epoch", "Epoch this node works in.", lambda s: s.beat.epoch),
    _one("node_probe_ok", "1 if the load balancer's probe is answered with OK.", lambda s: s.beat.probe_ok),
    _one(
        "node_in_sync",
        "1 if the witness record lists this node as in sync, by what the node last read.",
        lambda s: s.beat.node in s.beat.in_sync,
    ),
    _one("peer_in_sync", "1 if the witness record lists the peer as in sync.", lambda s: s.peer in s.beat.in_sync),
    _one("peer_up", "1 if the peer's heartbeats are heard.", lambda s: s.peer_alive),
    _one(
        "node_exposed_seconds",
        "How long this node has been serving without a synchronised peer.",
        lambda s: s.beat.exposed_for_s,
    ),
    _one("application_running", "1 if the application runs here.", lambda s: s.beat.application.value == "running"),
    _one(
        "application_restarts_in_window",
        "Restarts of the application inside the window of the restart budget.",
        lambda s: s.beat.restarts_in_window,
    ),
    Metric(
        Family("mirrorplane_checker_healthy", Type.GAUGE, "1 if the checker found its subject healthy last time."),
        "checker",
        _checkers,
    ),
    _state("mirror_link", "link", _LINKS, "State of the link to the replica.", lambda s: s.mirror.link),
    _state(
        "mirror_acknowledging",
        "acknowledging",
        _ACKNOWLEDGING,
        "How calls are acknowledged: without the peer, with it, or not now (parked).",
        lambda s: s.mirror.acknowledging,
    ),
    _one(
        "certificate_expires_timestamp_seconds",
        "When the node's certificate ends (Unix time); it renews itself at two thirds of its life.",
        _certificate_ends,
    ),
    _one(
        "certificate_renewal_failed",
        "1 if the last attempt to renew the node's certificate failed.",
        lambda s: None if s.beat.certificate is None else bool(s.beat.certificate.failure),
    ),
    _one(
        "certificate_authorities",
        "Authorities of the cluster this node trusts; two while the cluster's CA is rotated.",
        lambda s: None if s.beat.certificate is None else len(s.beat.certificate.trusted_sha256),
    ),
    _counter(
        "mirror_operations_total",
        "Changes of the replicated directories since the node took its role (replica: frames applied in this session).",
        lambda s: s.mirror.operations,
    ),
    _counter(
        "mirror_replicated_bytes_total",
        "Bytes sent to the replica since the node took its role (replica: received in this session).",
        lambda s: s.mirror.replicated_bytes,
    ),
    _one("mirror_in_flight_bytes", "Bytes sent or queued and not acknowledged.", lambda s: s.mirror.in_flight_bytes),
    _one(
        "mirror_ring_bytes",
        "What mirror_in_flight_bytes may reach before callers wait.",
        lambda s: s.mirror.ring_bytes or None,
    ),
    Metric(
        Family(
            "mirrorplane_mirror_acknowledgement_seconds",
            Type.HISTOGRAM,
            "How long callers waited for the replica's answer, since the node took its role.",
        ),
        "le",
        _latency,
    ),
    _one(
        "mirror_peer_silence_seconds",
        "Age of the last bytes from the peer on the stream.",
        lambda s: s.mirror.peer_heard_age_s,
    ),
    _one("mirror_dirty_files", "Files noted as changed since the newest checkpoint.", lambda s: s.mirror.dirty_files),
    _one(
        "mirror_dirty_bytes",
        "Bytes of the zones overwritten since the newest checkpoint, in files that existed then.",
        lambda s: s.mirror.dirty_bytes,
    ),
    _one("mirror_resync_done_bytes", "Bytes compared by the running resync.", lambda s: s.mirror.resync_done_bytes),
    _one(
        "mirror_resync_found_bytes",
        "Bytes the running resync has to compare, as far as it has listed them.",
        lambda s: s.mirror.resync_total_bytes,
    ),
    _one(
        "mirror_resync_remaining_seconds",
        "Estimated rest of the running resync.",
        lambda s: s.mirror.resync_remaining_s,
    ),
    _one(
        "mirror_resync_done_entries",
        "Entries looked at by the running resync.",
        lambda s: s.mirror.resync_done_entries if s.mirror.link == "resync" else None,
    ),
    _one(
        "mirror_resync_found_entries",
        "Entries the running resync has to look at.",
        lambda s: s.mirror.resync_total_entries if s.mirror.link == "resync" else None,
    ),
    _one(
        "mirror_quarantine_full",
        "1 if a resync stopped because the quarantine is full.",
        lambda s: bool(s.mirror.quarantine_full),
    ),
    _one(
        "mirror_replica_slow",
        "1 while half of the calls wait for the replica longer than a second.",
        lambda s: s.mirror.replica_rule == "slow",
    ),
    _counter(
        "mirror_replica_taken_out_total",
        "Replicas that were heard and yet taken out (disk stood still, or slow) since the node serves.",
        lambda s: s.mirror.replica_taken_out,
    ),
    _one(
        "mirror_replica_left_out_seconds",
        "For how long a replica that was taken out is still left out.",
        lambda s: s.mirror.replica_left_out_s,
    ),
    _one("mirror_inconsistent", "1 if this copy is in the middle of a resync.", lambda s: s.mirror.inconsistent),
    _one("mirror_verify_running", "1 while a verify is under way.", lambda s: s.mirror.verify.running),
    _one(
        "mirror_verify_done_bytes",
        "Bytes compared by the running verify.",
        lambda s: s.mirror.verify.done_bytes if s.mirror.verify.running else None,
    ),
    _one(
        "mirror_verify_found_bytes",
        "Bytes the running verify has to compare, as far as it has listed them.",
        lambda s: s.mirror.verify.total_bytes if s.mirror.verify.running else None,
    ),
    _one(
        "mirror_verify_differences",
        "Differences between the copies that stand since the last verify; alert when it is not 0.",
        lambda s: s.mirror.verify.differences,
    ),
    _one("mirror_verify_last_end_timestamp_seconds", "When the last verify ended (Unix time).", _verified_at),
)


def metrics_text(scrape: Scrape) -> str:
    """All families that have a value now, as Prometheus reads them."""
    common = {"cluster": scrape.cluster, "node": scrape.beat.node}
    lines = [line for metric in METRICS for line in family_lines(metric.family, metric.samples(scrape), common)]
    return "\n".join(lines) + "\n"
