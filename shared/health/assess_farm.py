"""`assess_farm(facts, history, now)`: the verdict on one farm and its nodes. Pure; every branch is a named rule.

A farm's nodes share nothing, so there is no record to read. A node serves if it says so, if its probe answers so, or if
another node that serves has just seen it serve.

Guarantees, as for mirrors
- Facts may come in any order and twice; a node's clock is not among them.
- `sick` never holds a node that serves by any fresh fact, and it is empty while the observer abstains. How many of the
  others must be healthy before one of them is repaired is the planner's to keep (`minimum-healthy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mirror_agent.contract import NodeName, Role

from shared.health.facts import Fact
from shared.health.history import History
from shared.health.judge_node import Judgement
from shared.health.looks import Looks, answers_as_serving, look, nothing_to_judge, pauses, said, unreachable, used_facts
from shared.health.settle import settle_cluster
from shared.health.verdict import ClusterVerdict, Health


def assess_farm(
    cluster: str,
    cluster_id: str,
    facts: Iterable[Fact],
    history: History,
    now: datetime,
    *,
    nodes: tuple[NodeName, ...],
    minimum_healthy: int,
) -> tuple[ClusterVerdict, History]:
    """The verdict, and the history to remember for the next look."""
    looks = look(facts, nodes, history, now, farm=True)
    up = tuple(
        node
        for node, found in looks.evidence.items()
        if answers_as_serving(found) or found.seen_by or (found.beat is not None and found.beat.serves)
    )
    track = settle_cluster(_judge(looks, up, minimum_healthy, now), history.cluster, now)
    down = tuple(node for node in nodes if node not in up and looks.tracks[node].state is Health.DOWN)
    verdict = ClusterVerdict(
        cluster=cluster,
        cluster_id=cluster_id,
        state=track.state,
        rule=track.rule,
        sentence=track.sentence,
        since=track.since,
        at=now,
        nodes=looks.nodes,
        facts=used_facts(looks.known, looks.evidence),
        up=up,
        sick=() if looks.abstains else down,
        sacred=up,
        paused_by=pauses(looks.known, now),
    )
    return verdict, History(history.watching_since, history.silent_after_s, track, looks.tracks)


def _judge(looks: Looks, up: tuple[NodeName, ...], minimum: int, now: datetime) -> Judgement:
    if (nothing := nothing_to_judge(looks)) is not None:
        return nothing
    if not up:
        return _nobody_serves(looks)
    if (away := unreachable(looks.latest, now)) is not None:
        return away
    # A node whose evidence is missing in this one look is still what it was called (`settle`).
    well = [node for node, track in looks.tracks.items() if node in up or track.state is Health.HEALTHY]
    count = f"{len(well)} of {len(looks.tracks)} serve"
    odd = {node: track for node, track in looks.tracks.items() if track.state is not Health.HEALTHY}
    why = "; ".join((count, *(f"{node}: {track.rule}" for node, track in odd.items())))
    if len(well) < minimum:
        return said(Health.DEGRADED, "farm-below-minimum", f"{why}; the minimum is {minimum}")
    if any(track.state is Health.DOWN for track in odd.values()):
        return said(Health.DEGRADED, "farm-node-down", why)
    if odd:
        return said(Health.DEGRADED, "farm-node-degraded", why)
    return said(Health.HEALTHY, "farm-all-serve", count)


def _nobody_serves(looks: Looks) -> Judgement:
    evidence, tracks = looks.evidence, looks.tracks
    if all(track.state is Health.DOWN for track in tracks.values()):
        return said(Health.DOWN, "farm-all-down", looks.each())
    if all((beat := found.beat) is not None and beat.role is Role.STOP for found in evidence.values()):
        return said(Health.DOWN, "farm-stopped")
    if all(evidence[node].beat is not None or tracks[node].state is Health.DOWN for node in tracks):
        return said(Health.DOWN, "farm-nobody-serves", looks.each())
    return said(Health.UNKNOWN, "cluster-unknown", looks.each())
