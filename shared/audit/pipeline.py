"""The health audit: collect → assess (pure) → store verdicts → storm guard → alerts → remediation.

Guarantees, whatever is skipped, doubled or killed
- One run at a time holds the fleet's row (conditional write, renewed while it works); a killed run's hold passes by
  itself, a run that lost its hold stops before it tells or repairs anything.
- A cluster's row is replaced only if it is the one that was read; probes are appended under the run's time. The same
  run twice leaves the same rows.
- `ended_at` moves only after the whole pipeline: whatever fails in it is seen from outside (`GET /api/health`).
- An observer that was away for three periods begins a new series and abstains (`observer-just-started`).

Cost: ranges of clusters, not clusters, are read (`shared.store.fleet`); a row is written where something changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.alerts.tick import advance_alerts
from shared.api.plane import ControlPlane
from shared.audit.collect import look
from shared.audit.doubt import facts_in_doubt
from shared.audit.notices import fresh_notices
from shared.audit.remember import fleet_of, history_of, record_of, storm_turn, turns_of, with_fleet, worth_writing
from shared.console.lines import ENDING, UNREAD, text_of, unknown_line, verdict_line
from shared.health.assess import assess
from shared.health.assess_farm import assess_farm
from shared.health.facts import Fact
from shared.health.history import History
from shared.health.limits import OBSERVER_GAP_S, silent_after_s
from shared.health.storm import advance_fleet
from shared.health.verdict import ClusterVerdict
from shared.model.audit import AuditRecord, FleetRecord, VerdictTurn
from shared.model.cluster import ClusterRecord, ProvisioningState
from shared.remediation.tick import remediate
from shared.store.ports import MAX_PAGE, Changed, ClusterRows, Exists, Noted, StoreError, Unavailable
from shared.structured_log import Log

HOLD_S: Final = 45.0  # longer than any range takes; a killed run is made up for by the second tick after it
CLUSTERS_PER_RANGE: Final = (
    450  # two rows each in `nodestate` (farms up to four): one page of 1000, with room for chance
)
RANGES_AT_ONCE: Final = 4
WRITES_AT_ONCE: Final = 24
MAX_CLUSTERS: Final = 100_000
_ALL_IDS: Final = "~"
_NOTHING: Final = ClusterRows({}, None, None, None)
log = Log("mirrorplane.audit")


@dataclass(frozen=True, slots=True)
class Assessed:
    verdicts: tuple[ClusterVerdict, ...]
    failed: int
    decide_s: float


async def audit_fleet(plane: ControlPlane) -> int:
    """One audit; returns how many clusters have a verdict. 0 also when another run is at work."""
    run = await _Run.begin(plane)
    if run is None:
        return 0
    noted = await plane.store.fleet.noted()
    everything = await _clusters(plane)
    records = [record for record in everything if record.state is not ProvisioningState.DELETING]
    assessed = await _assess_all(plane, run, records)
    if records and not assessed.verdicts:
        raise Unavailable(f"no verdict on any of {len(records)} clusters: their rows could not be read")
    fleet, rule = advance_fleet(fleet_of(run.record), assessed.verdicts, run.now)
    turn = storm_turn(fleet, rule, run.now)
    if turn is not None:
        await plane.store.audits.append_turns([turn])
        log.warning(rule, sentence=fleet.sentence, names=list(fleet.names))
    if not await run.keep(with_fleet(run.record, fleet, rule)):
        return 0
    await _post(plane, run, assessed.verdicts, everything, noted)
    await _tell_and_repair(plane, assessed.verdicts, run)
    await run.end()
    log.info(
        "audit",
        clusters=len(records),
        failed=assessed.failed,
        rule=rule,
        decide_s=round(assessed.decide_s, 3),
        wall_s=round((plane.clock() - run.now).total_seconds(), 3),
    )
    return len(assessed.verdicts)


async def _post(
    plane: ControlPlane,
    run: _Run,
    verdicts: tuple[ClusterVerdict, ...],
    everything: list[ClusterRecord],
    noted: Noted,
) -> None:
    """For the console's page of the fleet, every cluster; the next audit makes up for one that could not."""
    judged = {verdict.cluster for verdict in verdicts}
    lines = [verdict_line(verdict) for verdict in verdicts]
    lines += [
        unknown_line(record.name, ENDING if record.state is ProvisioningState.DELETING else UNREAD)
        for record in everything
        if record.name not in judged
    ]
    try:
        await plane.store.fleet.post(run.record.run_id, text_of(lines), noted)
    except StoreError as error:
        log.failure("board_failed", error, clusters=len(lines))


async def _tell_and_repair(plane: ControlPlane, verdicts: tuple[ClusterVerdict, ...], run: _Run) -> None:
    """What follows from the verdicts. Each part is level-triggered: the next audit makes up for one that failed, and
    telling that failed does not keep from repairing. Raises what telling raised."""
    fleet = fleet_of(run.record)
    try:
        await advance_alerts(plane, verdicts, run.now, fleet)
    finally:
        if await run.keep():
            await remediate(plane, verdicts, fleet, run.now)


class _Run:
    """This run's hold on the fleet's row."""

    def __init__(self, plane: ControlPlane, record: FleetRecord, etag: str, now: datetime) -> None:
        self._plane, self._etag = plane, etag
        self._writing = asyncio.Lock()
        self.record, self.now = record, now

    @classmethod
    async def begin(cls, plane: ControlPlane) -> _Run | None:
        now, run_id = plane.clock(), plane.new_id()
        found = await plane.store.audits.fleet()
        before = FleetRecord() if found is None else found.value
        if before.held_until is not None and before.held_until > now:
            return None  # a doubled tick, or the run before is still at work
        if before.ended_at is not None and before.ended_at >= now:
            return None  # a doubled tick whose twin has ended
        away = before.ended_at is None or (now - before.ended_at).total_seconds() > OBSERVER_GAP_S
        since = now if away or before.watching_since is None else before.watching_since
        record = before.model_copy(
            update={"run_id": run_id, "held_until": now + timedelta(seconds=HOLD_S), "watching_since": since}
        )
        try:
            etag = await plane.store.audits.put_fleet(record, None if found is None else found.etag)
        except (Exists, Changed):
            return None
        return cls(plane, record, etag, now)

    async def keep(self, record: FleetRecord | None = None) -> bool:
        """Renews the hold; False when another run has taken over, and this one must stop."""
        async with self._writing:
            until = self._plane.clock() + timedelta(seconds=HOLD_S)
            return await self._put((record or self.record).model_copy(update={"held_until": until}))

    async def keep_if_due(self) -> None:
        held = self.record.held_until
        if held is not None and held - self._plane.clock() < timedelta(seconds=HOLD_S / 2):
            await self.keep()

    async def end(self) -> None:
        await self._put(self.record.model_copy(update={"held_until": None, "ended_at": self.now}))

    async def _put(self, record: FleetRecord) -> bool:
        try:
            self._etag = await self._plane.store.audits.put_fleet(record, self._etag)
        except Changed:
            log.warning("audit_superseded", run_id=self.record.run_id)
            return False
        self.record = record
        return True


async def _clusters(plane: ControlPlane) -> list[ClusterRecord]:
    records: list[ClusterRecord] = []
    after: str | None = None
    while True:
        page = await plane.store.clusters.page(after, MAX_PAGE - 1)  # the adapter asks for one more than wanted
        records += [entry.value for entry in page.items]
        after = page.next
        if after is None:
            return records


def ranges(count: int) -> list[tuple[str, str]]:
    """Bounds that cut the space of cluster ids (hex) into even parts; together they hold every possible key."""
    parts = min(256, max(1, -(-count // CLUSTERS_PER_RANGE)))
    marks = [f"{index * 256 // parts:02x}" for index in range(1, parts)]
    return list(zip(["", *marks], [*marks, _ALL_IDS], strict=True))


async def _assess_all(plane: ControlPlane, run: _Run, records: list[ClusterRecord]) -> Assessed:
    """Range by range: read, look, judge, write. A range that cannot be read leaves its clusters without a verdict."""
    notices = await fresh_notices(plane, run.now)
    bounds = ranges(len(records))
    gate = asyncio.Semaphore(RANGES_AT_ONCE)
    ordered = sorted(records, key=lambda record: record.id)
    found: list[ClusterVerdict] = []
    failed = 0
    decide_s = 0.0

    async def one(first: str, beyond: str) -> None:
        nonlocal failed, decide_s
        mine = [record for record in ordered if first <= record.id < beyond]
        if not mine:
            return
        async with gate:
            try:
                verdicts, spent_s = await _range(plane, run, mine, first, beyond, notices)
                found.extend(verdicts)
                decide_s += spent_s
            except StoreError as error:
                failed += len(mine)
                log.failure("audit_failed", error, first=first, clusters=len(mine))
            await run.keep_if_due()

    await asyncio.gather(*(one(first, beyond) for first, beyond in bounds))
    return Assessed(tuple(sorted(found, key=lambda verdict: verdict.cluster)), failed, decide_s)


async def _range(
    plane: ControlPlane,
    run: _Run,
    records: list[ClusterRecord],
    first: str,
    beyond: str,
    notices: Mapping[str, tuple[Fact, ...]],
) -> tuple[list[ClusterVerdict], float]:
    rows = await plane.store.fleet.between(first, beyond, MAX_CLUSTERS)
    looked = await asyncio.gather(
        *(look(record, rows.get(record.id, _NOTHING), plane.prober, run.now) for record in records)
    )
    facts = {
        record.id: (*seen.facts, *notices.get(record.name, ())) for record, seen in zip(records, looked, strict=True)
    }
    facts |= await facts_in_doubt(plane, records, facts, rows, run.record.watching_since, run.now)
    verdicts: list[ClusterVerdict] = []
    written: list[tuple[ClusterRows, AuditRecord]] = []
    begun = time.perf_counter()
    for record in records:
        mine = rows.get(record.id, _NOTHING)
        limit_s = silent_after_s(record.spec.timing.control_plane_heartbeat_s)
        history = history_of(mine.audit, run.record.watching_since, limit_s)
        verdict, remembered = _judged(record, facts[record.id], history, run.now)
        verdicts.append(verdict)
        written.append((mine, record_of(verdict, remembered, run.record.run_id)))
    spent_s = time.perf_counter() - begun
    try:
        await plane.store.probes.append([result for seen in looked for result in seen.probes])
    except StoreError as error:  # the log of a look is no reason to withhold what was concluded from it
        log.failure("probe_log_failed", error, first=first, clusters=len(records))
    gate = asyncio.Semaphore(WRITES_AT_ONCE)
    turns = await asyncio.gather(*(_keep(plane, gate, mine, record) for mine, record in written))
    await plane.store.audits.append_turns([turn for some in turns for turn in some])
    return verdicts, spent_s


def _judged(
    record: ClusterRecord, facts: tuple[Fact, ...], history: History, now: datetime
) -> tuple[ClusterVerdict, History]:
    if not record.is_farm:
        return assess(record.name, record.id, facts, history, now)
    minimum = record.spec.healthy_needed
    return assess_farm(record.name, record.id, facts, history, now, nodes=record.nodes, minimum_healthy=minimum)


async def _keep(
    plane: ControlPlane, gate: asyncio.Semaphore, rows: ClusterRows, record: AuditRecord
) -> list[VerdictTurn]:
    """The verdict's row, if anything changed; the turns to log. Another run's row stands."""
    if not worth_writing(rows.audit, record):
        return []
    async with gate:
        try:
            await plane.store.audits.put(record, rows.audit_etag)
        except (Exists, Changed):
            return []
    turns = turns_of(rows.audit, record)
    for turn in turns:
        log.info(
            "verdict", cluster=turn.cluster, node=turn.node, state=turn.after, rule=turn.rule, sentence=turn.sentence
        )
    return turns
