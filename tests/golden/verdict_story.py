"""Runs a story of the audit: looks at given seconds, each with what is known then, and the verdicts that must follow.

A story is a JSON file a person can read. `base` is a healthy pair; every step changes what is known (dotted paths) and
says what is expected of the verdict. Ages are seconds before the look. Keys of `expect` are attributes of the verdict;
`a`, `b` are `state rule` of a node. With `"farm": 3` the base is a farm of three healthy nodes; at least `minimum` (1)
must serve.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mirror_agent.contract import ALL_NODES, MIRROR_NODES, ApplicationState, NodeName, Phase, Role

from shared.health.assess import assess
from shared.health.assess_farm import assess_farm
from shared.health.facts import (
    Availability,
    Beat,
    CollectorFailed,
    Fact,
    FactKind,
    FactValue,
    Notice,
    OperatorWish,
    Power,
    ProbeSeen,
    ResourceHealthSeen,
    Trust,
    WitnessSeen,
)
from shared.health.history import History
from shared.health.limits import OBSERVER_GAP_S
from shared.health.storm import advance_fleet
from shared.health.verdict import ClusterVerdict, Fleet
from shared.model.node_state import ProbeOutcome

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SILENT_AFTER_S = 15.0
BASE: dict[str, Any] = {
    "a": {
        "beat": {"age": 3, "role": "PRIM", "epoch": 4, "inSync": "ab", "link": "live", "application": "running"},
        "probe": {"age": 0, "outcome": "serving"},
    },
    "b": {
        "beat": {"age": 3, "role": "SECOND", "epoch": 4, "inSync": "ab", "link": "live", "application": "stopped"},
        "probe": {"age": 0, "outcome": "standby"},
    },
    "witness": {"age": 0, "epoch": 4, "primary": "a", "inSync": "ab"},
    "reasons": [],
    "notices": [],
}


FARM_NODE: dict[str, Any] = {
    "beat": {"age": 3, "role": "UP", "epoch": 0, "inSync": "", "link": "none", "application": "running"},
    "probe": {"age": 0, "outcome": "serving"},
}


def base_of(story: dict[str, Any]) -> dict[str, Any]:
    if "farm" not in story:
        return BASE
    nodes: dict[str, Any] = {node: copy.deepcopy(FARM_NODE) for node in ALL_NODES[: story["farm"]]}
    return {**nodes, "farm": True, "reasons": [], "notices": []}


def changed(situation: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with dotted paths set; None removes."""
    result = copy.deepcopy(situation)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
        if value is None:
            target.pop(last, None)
        else:
            target[last] = copy.deepcopy(value)
    return result


def facts_of(situation: dict[str, Any], now: datetime) -> list[Fact]:
    found: list[Fact] = []

    def add(kind: FactKind, node: NodeName | None, source: str, trust: Trust, age: float, value: FactValue) -> None:
        found.append(Fact(kind, node, source, now - timedelta(seconds=age), trust, value))

    for node in ALL_NODES:
        known = situation.get(node, {})
        if beat := known.get("beat"):
            add(FactKind.HEARTBEAT, node, f"agent-{node}", Trust.SELF_REPORT, beat["age"], _beat(beat))
        if probe := known.get("probe"):
            seen = ProbeSeen(ProbeOutcome(probe["outcome"]), probe.get("reason", ""))
            add(FactKind.PROBE, node, "probe", Trust.OWN_LOOK, probe["age"], seen)
        if power := known.get("power"):
            add(FactKind.POWER, node, "instance-view", Trust.PLATFORM, power["age"], Power(power["state"]))
        if health := known.get("resourceHealth"):
            value = ResourceHealthSeen(health["state"], health.get("customer", False))
            add(FactKind.RESOURCE_HEALTH, node, "resource-health", Trust.PLATFORM, health["age"], value)
    if witness := situation.get("witness"):
        in_sync = tuple(node for node in MIRROR_NODES if node in witness["inSync"])
        record = WitnessSeen(witness["epoch"], witness["primary"], in_sync)
        add(FactKind.WITNESS, None, "witness", Trust.RECORD, witness["age"], record)
    elif not situation.get("farm"):
        add(FactKind.COLLECTOR_FAILED, None, "witness", Trust.RECORD, 0, CollectorFailed("witness", "unreachable"))
    if frontend := situation.get("frontend"):
        value_ = Availability(frontend["percent"])
        add(FactKind.FRONTEND, None, "balancer-metrics", Trust.PLATFORM, frontend["age"], value_)
    for reason in situation.get("reasons", []):
        add(FactKind.OPERATOR, None, "operator", Trust.OPERATOR, 0, OperatorWish(reason))
    for notice in situation.get("notices", []):
        said = Notice(notice["type"], notice.get("id", "1"), customer_initiated=notice.get("customer", False))
        add(FactKind.NOTICE, notice.get("node"), "event-grid", Trust.PLATFORM, notice["age"], said)
    return found


def _beat(beat: dict[str, Any]) -> Beat:
    return Beat(
        role=Role(beat["role"]),
        phase=Phase(beat.get("phase", "ready")),
        epoch=beat["epoch"],
        in_sync=tuple(node for node in MIRROR_NODES if node in beat["inSync"]),
        application=ApplicationState(beat["application"]),
        probe_ok=beat["role"] in ("PRIM", "ALONE", "UP"),
        boot_id="boot",
        agent_start_id="start",
        sequence=1,
        sentence="",
        link=beat["link"],
        failing_checkers=tuple(beat.get("failingCheckers", ())),
        mirror_error=beat.get("mirrorError"),
        differences=beat.get("differences", 0),
        replica_slow=beat.get("replica_slow", False),
        peers_up=None if "peersUp" not in beat else tuple(node for node in ALL_NODES if node in beat["peersUp"]),
    )


def play(story: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(what was expected, what came) for every step; a `repeat` of a step is looks every `every` seconds."""
    clusters = int(story.get("clusters", 1))
    base = changed(base_of(story), story.get("base", {}))
    situations = [base] * clusters
    histories = [History(None, SILENT_AFTER_S)] * clusters
    fleet, storms, watching_since, last = Fleet(), [], None, None
    results: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for step in story["steps"]:
        count, every = step.get("repeat", 1), step.get("every", 30)
        share = step.get("clusters", clusters)
        for number in range(count):
            at_s = step["at"] + number * every
            now = START + timedelta(seconds=at_s)
            changes = step.get("set", {}) if number % 2 == 0 or "alternate" not in step else step["alternate"]
            situations = [
                changed(base if step.get("anew") else situation, changes) if index < share else situation
                for index, situation in enumerate(situations)
            ]
            if last is None or (now - last).total_seconds() > OBSERVER_GAP_S:
                watching_since = now
            last = now
            verdicts: list[ClusterVerdict] = []
            for index in range(clusters):
                history = replace(histories[index], watching_since=watching_since)
                found = facts_of(situations[index], now)
                verdict, histories[index] = _assess(story, index, found, history, now)
                verdicts.append(verdict)
            fleet, rule = advance_fleet(fleet, verdicts, now)
            if rule in ("storm-entered", "storm-left"):
                storms.append(rule)
        results.append((step.get("expect", {}), came(verdicts, fleet, storms)))
    return results


def _assess(
    story: dict[str, Any], index: int, found: list[Fact], history: History, now: datetime
) -> tuple[ClusterVerdict, History]:
    name, cluster_id = f"c{index}", f"id{index}"
    if "farm" not in story:
        return assess(name, cluster_id, found, history, now)
    nodes, minimum = ALL_NODES[: story["farm"]], story.get("minimum", 1)
    return assess_farm(name, cluster_id, found, history, now, nodes=nodes, minimum_healthy=minimum)


def came(verdicts: list[ClusterVerdict], fleet: Fleet, storms: list[str]) -> dict[str, Any]:
    first = verdicts[0]
    return {
        "cluster": f"{first.state.value} {first.rule}",
        **{node: f"{judged.state.value} {judged.rule}" for node, judged in first.nodes.items()},
        "serving": first.serving,
        "up": "".join(first.up),
        "sentence": first.sentence,
        "sick": "".join(first.sick),
        "sacred": "".join(first.sacred),
        "pausedBy": list(first.paused_by),
        "anySick": sorted({node for verdict in verdicts for node in cast("tuple[str, ...]", verdict.sick)}),
        "since": int((first.since - START).total_seconds()),
        "storm": fleet.storm,
        "storms": list(storms),
    }
