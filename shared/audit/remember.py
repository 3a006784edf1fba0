"""Between the pure history of the verdicts and the rows that keep it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from mirror_agent.contract import NodeName

from shared.health.history import History, Track
from shared.health.verdict import ClusterVerdict, Fleet, Health
from shared.model.audit import AuditRecord, FleetRecord, TrackRecord, TurnKind, VerdictTurn
from shared.store.ports import FLEET


def history_of(record: AuditRecord | None, watching_since: datetime | None, silent_after_s: float) -> History:
    if record is None:
        return History(watching_since, silent_after_s)
    nodes = {node: _track(track) for node, track in record.nodes.items()}
    return History(watching_since, silent_after_s, None if record.verdict is None else _track(record.verdict), nodes)


def record_of(verdict: ClusterVerdict, history: History, run_id: str) -> AuditRecord:
    return AuditRecord(
        cluster_id=verdict.cluster_id,
        cluster=verdict.cluster,
        audited_at=verdict.at,
        run_id=run_id,
        verdict=None if history.cluster is None else _kept(history.cluster),
        nodes={node: _kept(track) for node, track in history.nodes.items()},
        serving=verdict.serving,
        up=verdict.up,
        sick=verdict.sick,
        paused_by=verdict.paused_by,
    )


def worth_writing(before: AuditRecord | None, after: AuditRecord) -> bool:
    """Whether anything changed but the wording: sentences carry ages, which grow at every look."""
    return before is None or _essence(before) != _essence(after)


def turns_of(before: AuditRecord | None, after: AuditRecord) -> list[VerdictTurn]:
    """The changes of state between two records, for the history of verdicts."""
    found: list[VerdictTurn] = []

    def turn(kind: TurnKind, node: NodeName | None, old: TrackRecord | None, new: TrackRecord | None) -> None:
        if new is None or (old is not None and (old.state, old.rule) == (new.state, new.rule)):
            return
        found.append(
            VerdictTurn(
                cluster_id=after.cluster_id,
                cluster=after.cluster,
                kind=kind,
                node=node,
                at=after.audited_at,
                before="" if old is None else old.state,
                after=new.state,
                rule=new.rule,
                sentence=new.sentence,
            )
        )

    turn(TurnKind.CLUSTER, None, None if before is None else before.verdict, after.verdict)
    for node, track in after.nodes.items():
        turn(TurnKind.NODE, node, None if before is None else before.nodes.get(node), track)
    return found


def fleet_of(record: FleetRecord) -> Fleet:
    return Fleet(
        storm=record.storm,
        entered_at=record.entered_at,
        calm_since=record.calm_since,
        left_at=record.left_at,
        suspects=record.suspects,
        clusters=record.clusters,
        sentence=record.sentence,
        names=record.names,
    )


def with_fleet(record: FleetRecord, fleet: Fleet, rule: str) -> FleetRecord:
    return record.model_copy(update={**asdict(fleet), "storms": record.storms + (rule == "storm-entered")})


def storm_turn(fleet: Fleet, rule: str, at: datetime) -> VerdictTurn | None:
    """The entry of the storm guard's log: entered once, left once."""
    if rule not in ("storm-entered", "storm-left"):
        return None
    before, after = ("calm", "storm") if rule == "storm-entered" else ("storm", "calm")
    return VerdictTurn(
        cluster_id=FLEET,
        cluster="",
        kind=TurnKind.STORM,
        at=at,
        before=before,
        after=after,
        rule=rule,
        sentence=fleet.sentence,
    )


def _track(record: TrackRecord) -> Track:
    return Track(
        Health(record.state),
        record.rule,
        record.sentence,
        record.since,
        Health(record.seen),
        record.seen_since,
        record.changes,
    )


def _kept(track: Track) -> TrackRecord:
    return TrackRecord(
        state=track.state.value,
        rule=track.rule,
        sentence=track.sentence,
        since=track.since,
        seen=track.seen.value,
        seen_since=track.seen_since,
        changes=track.changes,
    )


def _essence(record: AuditRecord) -> object:
    tracks = [record.verdict, *(record.nodes[node] for node in sorted(record.nodes))]
    return (
        [track and (track.state, track.rule, track.seen, track.changes) for track in tracks],
        sorted(record.nodes),
        record.serving,
        record.up,
        record.sick,
        record.paused_by,
    )
