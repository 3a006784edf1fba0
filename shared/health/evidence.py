"""The facts about one node, sorted into what they say: fresh or not, for the node or against it, from which source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.health.facts import (
    Availability,
    Beat,
    Fact,
    FactKind,
    Latest,
    Power,
    ProbeSeen,
    ResourceHealthSeen,
    WitnessSeen,
)
from shared.health.limits import LOOK_FRESH_S, PLATFORM_FRESH_S, SLOW_PLATFORM_FRESH_S
from shared.model.node_state import ProbeOutcome

ANSWERED: Final = frozenset({ProbeOutcome.SERVING, ProbeOutcome.STANDBY, ProbeOutcome.UNEXPECTED})
FAILED: Final = frozenset({ProbeOutcome.REFUSED, ProbeOutcome.TIMEOUT, ProbeOutcome.UNREACHABLE})
_LIVE: Final = frozenset({"live", "resync"})
_RUNNING: Final = frozenset({"running", "starting"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Only fresh facts, except `last_beat`, which is the newest of any age. `beat` and `peer_beat` are fresh."""

    node: NodeName
    last_beat: Fact | None
    beat: Beat | None
    beat_age_s: float | None
    probe: ProbeSeen | None
    power: Power | None
    health: ResourceHealthSeen | None
    backend: Availability | None
    peer_beat: Beat | None
    witness: WitnessSeen | None
    used: tuple[Fact, ...]
    supporting: frozenset[str]
    seen_by: frozenset[str]
    """Of a farm: serving nodes that see this one serve; `unseen`: there are some that looked, and none does."""
    unseen: bool

    @property
    def replicates(self) -> bool:
        """The peer says that this node holds everything and that the stream to it is up."""
        peer = self.peer_beat
        return peer is not None and peer.serves and self.node in peer.in_sync and peer.link in _LIVE

    @property
    def left_out(self) -> bool:
        """The peer serves and runs without this node, by its own word."""
        return self.peer_beat is not None and self.peer_beat.serves and self.node not in self.peer_beat.in_sync

    @property
    def recorded_out(self) -> bool:
        record = self.witness
        return record is not None and record.primary not in ("", self.node) and self.node not in record.in_sync

    @property
    def not_running(self) -> bool:
        return self.power is not None and self.power.state not in _RUNNING

    @property
    def probe_failed(self) -> bool:
        return self.probe is not None and self.probe.outcome in FAILED

    @property
    def probe_answered(self) -> bool:
        return self.probe is not None and self.probe.outcome in ANSWERED


def gather(
    facts: Latest, node: NodeName, others: tuple[NodeName, ...], silent_after_s: float, now: datetime, *, farm: bool
) -> Evidence:
    """`others`: of a mirror the peer, which replicates to this node or from it; of a farm all that may see it serve."""
    peer = None if farm else others[0]
    used: list[Fact] = []

    def fresh(kind: FactKind, subject: NodeName | None, limit_s: float) -> Fact | None:
        fact = facts.get((kind, subject))
        if fact is None or fact.age_s(now) > limit_s:
            return None
        used.append(fact)
        return fact

    last = facts.get((FactKind.HEARTBEAT, node))
    own = fresh(FactKind.HEARTBEAT, node, silent_after_s)
    if own is None and last is not None:
        used.append(last)
    beside = None if peer is None else fresh(FactKind.HEARTBEAT, peer, silent_after_s)
    probe = fresh(FactKind.PROBE, node, LOOK_FRESH_S)
    power = fresh(FactKind.POWER, node, PLATFORM_FRESH_S)
    health = fresh(FactKind.RESOURCE_HEALTH, node, SLOW_PLATFORM_FRESH_S)
    backend = fresh(FactKind.BACKEND, node, SLOW_PLATFORM_FRESH_S)
    witness = fresh(FactKind.WITNESS, None, LOOK_FRESH_S)
    told = [fact for other in others if farm and (fact := fresh(FactKind.HEARTBEAT, other, silent_after_s)) is not None]
    seen = {fact.source: fact.value.peers_up for fact in told if isinstance(fact.value, Beat) and fact.value.serves}
    seen_by = frozenset(source for source, up in seen.items() if up is not None and node in up)
    found = Evidence(
        node=node,
        last_beat=last,
        beat=own.value if own is not None and isinstance(own.value, Beat) else None,
        beat_age_s=None if last is None else last.age_s(now),
        probe=probe.value if probe is not None and isinstance(probe.value, ProbeSeen) else None,
        power=power.value if power is not None and isinstance(power.value, Power) else None,
        health=health.value if health is not None and isinstance(health.value, ResourceHealthSeen) else None,
        backend=backend.value if backend is not None and isinstance(backend.value, Availability) else None,
        peer_beat=beside.value if beside is not None and isinstance(beside.value, Beat) else None,
        witness=witness.value if witness is not None and isinstance(witness.value, WitnessSeen) else None,
        used=tuple(used),
        supporting=frozenset(),
        seen_by=seen_by,
        unseen=not seen_by and any(up is not None for up in seen.values()),
    )
    sources = {kind: fact.source for kind, fact in (("beat", own), ("probe", probe), ("power", power)) if fact}
    supporting = _supporting(found, sources, None if beside is None else beside.source)
    if witness is not None and _recorded_as_it_says(found):
        supporting.add(witness.source)
    return Evidence(
        **{name: getattr(found, name) for name in Evidence.__slots__} | {"supporting": frozenset(supporting)}
    )


def _recorded_as_it_says(found: Evidence) -> bool:
    beat, record = found.beat, found.witness
    if beat is None or record is None or not beat.serves:
        return False
    return record.primary == found.node and record.epoch == beat.epoch


def _supporting(found: Evidence, sources: dict[str, str], peer_source: str | None) -> set[str]:
    """The sources that speak for the node living, each counted once."""
    supporting: set[str] = set(found.seen_by)
    if found.beat is not None:
        supporting.add(sources["beat"])
    if found.probe_answered:
        supporting.add(sources["probe"])
    if found.power is not None and not found.not_running:
        supporting.add(sources["power"])
    if found.replicates and peer_source is not None:
        supporting.add(peer_source)
    # A replica hears the primary: its word that the primary is in sync with it supports the primary too.
    peer = found.peer_beat
    if peer is not None and peer_source is not None and not peer.serves and peer.link in _LIVE:
        supporting.add(peer_source)
    return supporting
