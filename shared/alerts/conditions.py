"""Which conditions hold: from verdicts, the storm guard and the facts of events, as data for the life cycle. Pure.

`Seen` also says about which alerts this look may conclude that their condition is away: an alert of a cluster nobody
could look at, or whose verdict is `unknown`, is left as it is (`held-by-unknown`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.alerts.rules import ALERTS
from shared.health.verdict import ClusterVerdict, Fleet, Health
from shared.model.alert import FLEET, MAX_SENTENCE_CHARS, Severity, alert_key
from shared.model.event_fact import EventFact, EventFactKind

CLUSTER: Final = "cluster"  # the subject of an alert about the cluster as a whole
FROM_VERDICTS: Final = frozenset(
    {
        *("cluster-down", "cluster-exposed", "exposed-too-long", "cluster-degraded", "cluster-unknown", "node-down"),
        "farm-below-minimum",
    }
)
_BY_STATE: Final[dict[Health, tuple[str, ...]]] = {
    Health.HEALTHY: (),
    Health.DEGRADED: ("cluster-degraded",),
    Health.EXPOSED: ("cluster-exposed", "exposed-too-long"),
    Health.DOWN: ("cluster-down",),
    Health.UNKNOWN: ("cluster-unknown",),
}
assert set(_BY_STATE) == set(Health)
# A rule of a verdict that is told by an alert of its own, besides the one of the cluster's state.
_BY_RULE: Final = frozenset({"farm-below-minimum"})
assert {rule for rules in _BY_STATE.values() for rule in rules} | {"node-down", *_BY_RULE} == FROM_VERDICTS
_STOPPED: Final = frozenset({"deallocate", "power-off"})


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is true now. Two of one key are one. Raises KeyError at once for a rule that is not listed."""

    cluster: str
    rule: str
    subject: str
    sentence: str
    severity: Severity

    @property
    def key(self) -> str:
        return alert_key(self.cluster, self.rule, self.subject)


def condition(cluster: str, rule: str, subject: str, sentence: str = "", severity: str = "") -> Condition:
    known = ALERTS[rule]
    chosen = Severity(severity) if severity else known.severity
    return Condition(cluster, rule, subject, (sentence or known.sentence)[:MAX_SENTENCE_CHARS], chosen)


@dataclass(frozen=True, slots=True)
class ClusterWork:
    """What the control plane itself is doing to a cluster, so that its own deletions are not reported as a stranger's.
    `born_at`: facts of an earlier cluster of the same name do not count."""

    born_at: datetime
    busy: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """`judged`: clusters with a verdict other than unknown. `looked`: clusters with any verdict. `gone`: deleted ones.
    `pauses`: reasons to keep still, by cluster."""

    conditions: Mapping[str, Condition]
    judged: frozenset[str]
    looked: frozenset[str]
    gone: frozenset[str] = frozenset()
    pauses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    storm: bool = False


def seen(
    verdicts: Iterable[ClusterVerdict],
    fleet: Fleet | None,
    facts: Sequence[EventFact],
    work: Mapping[str, ClusterWork],
    gone: frozenset[str],
    own: Iterable[Condition] = (),
) -> Seen:
    """`own` are conditions of the control plane itself (dead letters). A cluster without `work` is not ours (any more):
    facts about it say nothing."""
    found = [condition(FLEET, "watchdog", "fleet"), *own]
    judged, looked, pauses = set[str](), set[str](), dict[str, tuple[str, ...]]()
    for verdict in verdicts:
        looked.add(verdict.cluster)
        if verdict.state is not Health.UNKNOWN:
            judged.add(verdict.cluster)
        if verdict.paused_by:
            pauses[verdict.cluster] = verdict.paused_by
        found += _of_verdict(verdict)
    if fleet is not None and fleet.storm:
        found.append(condition(FLEET, "storm", "fleet", fleet.sentence))
    for fact in facts:
        found += _of_fact(fact, work.get(fact.cluster))
    by_key: dict[str, Condition] = {}
    for entry in sorted(found, key=lambda entry: (entry.key, entry.severity.value, entry.sentence)):
        by_key.setdefault(entry.key, entry)
    storm = fleet is not None and fleet.storm
    return Seen(by_key, frozenset(judged), frozenset(looked), gone, pauses, storm)


def _of_verdict(verdict: ClusterVerdict) -> list[Condition]:
    found = [condition(verdict.cluster, rule, CLUSTER, verdict.sentence) for rule in _BY_STATE[verdict.state]]
    if verdict.rule in _BY_RULE:
        found.append(condition(verdict.cluster, verdict.rule, CLUSTER, verdict.sentence))
    for node, entry in sorted(verdict.nodes.items()):
        if entry.state is Health.DOWN:
            found.append(condition(verdict.cluster, "node-down", node, entry.sentence))
    return found


def _of_fact(fact: EventFact, work: ClusterWork | None) -> list[Condition]:
    if not fact.open:
        return []
    if fact.kind is EventFactKind.RAISED:
        rule, _, subject = fact.subject.partition("/")
        return [condition(fact.cluster, rule, subject, fact.sentence, fact.severity)]
    if work is None or fact.at < work.born_at:
        return []
    subject = fact.node or fact.resource.rpartition("/")[2] or CLUSTER
    match fact.kind:
        case EventFactKind.RESOURCE:
            return [] if work.busy else _of_change(fact, subject)
        case EventFactKind.RESOURCE_HEALTH:
            return [condition(fact.cluster, "platform-unavailable", subject, fact.sentence)]
        case EventFactKind.ANNOTATION:
            return [condition(fact.cluster, "customer-initiated", subject, fact.sentence)]
        case EventFactKind.SCHEDULED_EVENT:
            return [condition(fact.cluster, "scheduled-event", subject, fact.sentence)]
        case EventFactKind.AZURE_ALERT:
            return [condition(fact.cluster, "azure-alert", fact.subject, fact.sentence, fact.severity)]


def _of_change(fact: EventFact, subject: str) -> list[Condition]:
    if fact.value == "delete":
        rule = "vm-deleted" if fact.subject.startswith("virtualmachines/") else "load-balancer-deleted"
        return [condition(fact.cluster, rule, subject, fact.sentence)]
    if fact.value in _STOPPED:
        return [condition(fact.cluster, "vm-stopped", subject, fact.sentence)]
    return []
