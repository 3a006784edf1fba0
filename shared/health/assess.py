"""`assess(facts, history, now)`: the verdict on one mirror and its nodes. Pure; every branch is a named rule.

Guarantees
- Facts may come in any order and twice; a node's clock is not among them.
- `sick` never holds a node that serves by any fresh fact, that the safety record names, or whose peer is not shown to
  serve by the record and a fresh fact together (`serving-is-sacred`); and it is empty while the observer abstains.
- With fewer than two independent fresh facts the answer is `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from mirror_agent.contract import MIRROR_NODES, NodeName, Role

from shared.health.evidence import Evidence
from shared.health.facts import Fact, FactKind, Latest, WitnessSeen
from shared.health.history import History, Track
from shared.health.judge_node import Judgement
from shared.health.limits import LOOK_FRESH_S
from shared.health.looks import Looks, answers_as_serving, look, nothing_to_judge, pauses, said, unreachable, used_facts
from shared.health.settle import settle_cluster
from shared.health.verdict import ClusterVerdict, Health
from shared.model.cluster_kind import other


def assess(
    cluster: str, cluster_id: str, facts: Iterable[Fact], history: History, now: datetime
) -> tuple[ClusterVerdict, History]:
    """The verdict, and the history to remember for the next look."""
    looks = look(facts, MIRROR_NODES, history, now)
    evidence, tracks = looks.evidence, looks.tracks
    record = _record(looks.latest, now)
    claims = tuple(node for node in MIRROR_NODES if (beat := evidence[node].beat) is not None and beat.serves)
    answering = tuple(node for node in MIRROR_NODES if answers_as_serving(evidence[node]))
    serving = _serving(claims, answering, evidence, record)
    sacred = _sacred(claims, answering, record)
    looked = _judge_cluster(looks, serving, claims, now)
    track = settle_cluster(looked, history.cluster, now)
    verdict = ClusterVerdict(
        cluster=cluster,
        cluster_id=cluster_id,
        state=track.state,
        rule=track.rule,
        sentence=track.sentence,
        since=track.since,
        at=now,
        nodes=looks.nodes,
        facts=used_facts(looks.known, evidence),
        serving=serving,
        sick=() if looks.abstains else _sick(tracks, serving, sacred, record, claims),
        sacred=sacred,
        paused_by=pauses(looks.known, now),
    )
    return verdict, History(history.watching_since, history.silent_after_s, track, tracks)


def _record(facts: Latest, now: datetime) -> WitnessSeen | None:
    fact = facts.get((FactKind.WITNESS, None))
    if fact is None or fact.age_s(now) > LOOK_FRESH_S or not isinstance(fact.value, WitnessSeen):
        return None
    return fact.value


def _serving(
    claims: tuple[NodeName, ...],
    answering: tuple[NodeName, ...],
    evidence: Mapping[NodeName, Evidence],
    record: WitnessSeen | None,
) -> NodeName | None:
    """Of two claims the recorded one counts, otherwise the one of the greater epoch."""
    candidates = claims or answering
    for node in candidates:
        if len(candidates) == 1 or (record is not None and record.primary == node):
            return node
    return max(candidates, key=lambda claim: _epoch(evidence[claim]), default=None)


def _epoch(found: Evidence) -> int:
    return -1 if found.beat is None else found.beat.epoch


def _sacred(
    claims: tuple[NodeName, ...], answering: tuple[NodeName, ...], record: WitnessSeen | None
) -> tuple[NodeName, ...]:
    """Without a record, nobody can be told from the primary: both are sacred."""
    return tuple(
        node
        for node in MIRROR_NODES
        if node in claims or node in answering or record is None or record.primary in (node, "")
    )


def _sick(
    tracks: Mapping[NodeName, Track],
    serving: NodeName | None,
    sacred: tuple[NodeName, ...],
    record: WitnessSeen | None,
    claims: tuple[NodeName, ...],
) -> tuple[NodeName, ...]:
    if serving is None or record is None or record.primary != serving or claims != (serving,):
        return ()
    if tracks[serving].state not in (Health.HEALTHY, Health.EXPOSED, Health.DEGRADED):
        return ()
    return tuple(node for node in MIRROR_NODES if node not in sacred and tracks[node].state is Health.DOWN)


def _judge_cluster(looks: Looks, serving: NodeName | None, claims: tuple[NodeName, ...], now: datetime) -> Judgement:
    if (nothing := nothing_to_judge(looks)) is not None:
        return nothing
    if serving is None:
        return _nobody_serves(looks)
    if len(claims) > 1:
        return said(Health.DEGRADED, "two-claims", f"the verdict takes {serving} as serving")
    return _served(looks, serving, now)


def _nobody_serves(looks: Looks) -> Judgement:
    evidence, tracks = looks.evidence, looks.tracks
    if all(track.state is Health.DOWN for track in tracks.values()):
        return said(Health.DOWN, "both-nodes-down", looks.each())
    if all((beat := found.beat) is not None and beat.role is Role.STOP for found in evidence.values()):
        return said(Health.DOWN, "stopped-by-operator")
    if all(evidence[node].beat is not None or tracks[node].state is Health.DOWN for node in MIRROR_NODES):
        return said(Health.DOWN, "nobody-serves", looks.each())
    return said(Health.UNKNOWN, "cluster-unknown", looks.each())


def _served(looks: Looks, serving: NodeName, now: datetime) -> Judgement:
    evidence, tracks = looks.evidence, looks.tracks
    peer = other(serving)
    if tracks[serving].state in (Health.UNKNOWN, Health.DOWN):
        return said(Health.UNKNOWN, "cluster-unknown", f"{serving}: {tracks[serving].rule}")
    if tracks[peer].state is Health.DOWN:
        return said(Health.EXPOSED, "replica-down", f"{serving} serves; {peer}: {tracks[peer].rule}")
    beat = evidence[serving].beat
    if beat is not None and (beat.role is Role.ALONE or peer not in beat.in_sync):
        return said(Health.EXPOSED, "runs-alone", f"{serving} serves; {peer}: {tracks[peer].rule}")
    if (away := unreachable(looks.latest, now)) is not None:
        return away
    if tracks[peer].state is Health.UNKNOWN and beat is None:
        return said(Health.UNKNOWN, "cluster-unknown", f"{peer}: {tracks[peer].rule}")
    odd = [node for node in MIRROR_NODES if tracks[node].state is not Health.HEALTHY]
    if odd:
        return said(Health.DEGRADED, "node-degraded", "; ".join(f"{node}: {tracks[node].rule}" for node in odd))
    return said(Health.HEALTHY, "in-sync", f"{serving} serves")
