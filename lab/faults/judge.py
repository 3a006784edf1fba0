"""The judge: what was observed in, findings out. Pure; shares no code with the agent, its core or its simulator.

Rules, each a sentence of its own when broken:
- every acknowledged write is in the application with its value, and nothing the client never sent is there;
- an acknowledgement by a node lies in a time at which storage named that node primary;
- two nodes never serve at one moment. An observation is an interval [sent, received] in which the node served at some
  moment. Within one epoch a node's service is one stretch, so it surely served from the first answer's receipt to the
  last question's sending; these stretches of different nodes must not overlap, and an older epoch ends first;
- every epoch has one primary, and the recorded epochs only grow;
- the two copies are equal at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lab.faults.model import NODES, Ack, Alive, Case, Observed, Primary, RecordSeen, Sample, Service, Verdict

# A gap between acknowledged writes that a saturated machine makes without any accident.
UNBROKEN_LIMIT_S: Final = 3.0
SHOWN: Final = 5
ONE_ANSWER_S: Final = 0.05  # what a single late answer counts for


@dataclass(frozen=True)
class Stretch:
    """A node's service in one epoch: surely from `sure_from` to `sure_until` (none, if the former is later)."""

    node: str
    epoch: int
    sure_from: float
    sure_until: float


def judge(case: Case, seen: Observed) -> Verdict:
    missing = sorted({ack.id for ack in seen.acks if ack.id not in seen.rows})
    outage_s = longest_gap_s(seen.acks, seen.began_at, seen.ended_at)
    answers = stretches(
        (sample.node, sample.epoch, sample.sent_at, sample.received_at) for sample in seen.samples if sample.serving
    )
    changes = primary_changes(seen.records)
    findings = (
        *writes_found(seen, missing),
        *wrong_node_acknowledged(seen.acks, seen.records),
        *(f"two nodes answer the probe with OK for {s:.2f} s: {who}" for who, s in overlaps(answers)),
        *epochs_found(seen.records, seen.won, seen.samples),
        *trees_found(*seen.trees),
        *service_found(case, outage_s, changes),
    )
    lost = len(missing) + seen.earlier_rows_lost
    return Verdict(findings, lost, outage_s, stale_reads_s(seen.alive), changes, blind_s(seen.samples))


def stale_reads_s(alive: Sequence[Alive]) -> float:
    """From the first to the last answer that an application of an older epoch gave after a newer one had answered."""
    applications = stretches((item.node, item.epoch, item.sent_at, item.received_at) for item in alive)
    seconds = 0.0
    for older, newer in itertools.permutations(applications, 2):
        if older.epoch < newer.epoch and older.node != newer.node:
            own = (item for item in alive if (item.node, item.epoch) == (older.node, older.epoch))
            late = [item.received_at for item in own if item.sent_at > newer.sure_from]
            seconds += max(late) - min(late) + ONE_ANSWER_S if late else 0.0
    return seconds


def blind_s(samples: Iterable[Sample]) -> float:
    asked: dict[str, list[float]] = {}
    for sample in samples:
        asked.setdefault(sample.node, []).append(sample.sent_at)
    gaps = (b - a for times in asked.values() for a, b in itertools.pairwise(sorted(times)))
    return max(gaps, default=0.0)


def longest_gap_s(acks: Iterable[Ack], began_at: float, ended_at: float) -> float:
    """The longest time in the interval without an acknowledgement, for the client that had to wait longest.

    A client is what the acknowledgements were received through; the nodes' own names are no clients.
    """
    clients: dict[str, list[float]] = {}
    for ack in acks:
        if ack.through not in NODES:
            clients.setdefault(ack.through, []).append(ack.received_at)
    return max((_gap_s(sorted(times), began_at, ended_at) for times in clients.values()), default=ended_at - began_at)


def _gap_s(times: list[float], began_at: float, ended_at: float) -> float:
    edges = [(times[-1], ended_at)] if times[-1] < ended_at else []
    pairs = [*itertools.pairwise(times), *edges]
    return max((b - max(a, began_at) for a, b in pairs if b >= began_at and a <= ended_at), default=0.0)


def stretches(answers: Iterable[tuple[str, int, float, float]]) -> list[Stretch]:
    """One stretch for each node and epoch, out of (node, epoch, sent, received)."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for node, epoch, sent_at, received_at in answers:
        first, last = found.get((node, epoch), (received_at, sent_at))
        found[node, epoch] = (min(first, received_at), max(last, sent_at))
    return [Stretch(node, epoch, first, last) for (node, epoch), (first, last) in sorted(found.items())]


def overlaps(found: Sequence[Stretch]) -> list[tuple[str, float]]:
    """Pairs of stretches of different nodes that surely overlap: who, and for how long.

    The end of the older epoch after the beginning of the newer one is enough, however short each was.
    """
    wrong = []
    for one, other in itertools.combinations(found, 2):
        older, newer = sorted((one, other), key=lambda stretch: stretch.epoch)
        if older.node != newer.node and older.sure_until > newer.sure_from:
            text = f"{older.node} in epoch {older.epoch} and {newer.node} in epoch {newer.epoch}"
            wrong.append((text, older.sure_until - newer.sure_from))
    return wrong


def primary_changes(records: Sequence[RecordSeen]) -> int:
    named = [record.primary for record in records if record.primary]
    return sum(1 for before, after in itertools.pairwise(named) if before != after)


def writes_found(seen: Observed, missing: list[int]) -> list[str]:
    findings = []
    if missing:
        where = {ack.id: ack for ack in seen.acks}
        texts = [f"{i} (acknowledged by {where[i].node}, {where[i].through})" for i in missing[:SHOWN]]
        findings.append(f"{len(missing)} acknowledged writes are missing: {', '.join(texts)}")
    if seen.earlier_rows_lost:
        findings.append(f"{seen.earlier_rows_lost} rows of earlier cases are gone")
    strange = sorted(i for i, text in seen.rows.items() if seen.values.get(i) != text)
    if strange:
        texts = [f"{i}: {seen.rows[i]!r} instead of {seen.values.get(i)!r}" for i in strange[:SHOWN]]
        findings.append(f"{len(strange)} values are not what the client sent: {'; '.join(texts)}")
    return findings


@dataclass(frozen=True)
class Reign:
    """Storage may have named `primary` at any moment between `since` and `until`, and surely not outside."""

    primary: str
    since: float
    until: float


def reigns(records: Sequence[RecordSeen]) -> list[Reign]:
    """A change lies between the sending of the last question with the old answer and the receipt of the new answer."""
    found: list[Reign] = []
    groups = [list(group) for _, group in itertools.groupby(records, key=lambda record: record.primary)]
    for number, group in enumerate(groups):
        since = groups[number - 1][-1].sent_at if number else group[0].sent_at
        until = groups[number + 1][0].received_at if number + 1 < len(groups) else float("inf")
        found.append(Reign(group[0].primary, since, until))
    return found


def wrong_node_acknowledged(acks: Iterable[Ack], records: Sequence[RecordSeen]) -> list[str]:
    """Acknowledgements by a node at a time at which storage surely named another one, all the time of the request.

    What was acknowledged before the first reading of the record is not judged.
    """
    known = reigns(records)
    wrong = []
    for ack in acks:
        possible = {reign.primary for reign in known if reign.since <= ack.received_at and ack.sent_at <= reign.until}
        if possible and ack.node not in possible:
            wrong.append(f"{ack.id} by {ack.node} while storage names {', '.join(sorted(possible))}")
    return [f"{len(wrong)} writes were acknowledged by a node that is not primary: {wrong[:SHOWN]}"] if wrong else []


def epochs_found(
    records: Sequence[RecordSeen], won: Sequence[tuple[int, str, str]], samples: Iterable[Sample]
) -> list[str]:
    findings = []
    for before, after in itertools.pairwise(records):
        if after.epoch < before.epoch:
            findings.append(f"the record went back from epoch {before.epoch} to {after.epoch}")
        if after.epoch == before.epoch and (after.primary, after.in_sync) != (before.primary, before.in_sync):
            findings.append(f"epoch {after.epoch} was recorded twice, for {before.primary} and {after.primary}")
    writers: dict[int, str] = {}
    for epoch, node, rule in won:
        if epoch in writers:
            findings.append(f"epoch {epoch} was won twice, by {writers[epoch]} and by {node} ({rule})")
        writers[epoch] = node
    named = {record.epoch: record.primary for record in records}
    for node, epoch in sorted({(sample.node, sample.epoch) for sample in samples if sample.serving}):
        if named.get(epoch, node) != node:
            findings.append(f"{node} served in epoch {epoch}, which storage gave to {named[epoch]}")
    return findings


def trees_found(one: dict[str, str], other: dict[str, str]) -> list[str]:
    different = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    if not one:
        return ["the replicated directory of node a is empty at the end"]
    return [f"the copies differ at the end in {', '.join(different[:SHOWN])}"] if different else []


def service_found(case: Case, outage_s: float, changes: int) -> list[str]:
    findings = []
    limit_s = UNBROKEN_LIMIT_S if case.service is Service.UNBROKEN and case.limit_s is None else case.limit_s
    if limit_s is not None and outage_s > limit_s:
        findings.append(f"no write was acknowledged for {outage_s:.1f} s, at most {limit_s:g} s are accepted")
    if case.primary is Primary.STAYS and changes:
        findings.append(f"the primary changed {changes} times, it should have stayed")
    if case.primary is Primary.CHANGES and not changes:
        findings.append("the primary did not change, the other node should have taken over")
    return findings
