"""Heartbeats and probes of some hours as two strips of equal pieces. Pure.

A piece shows the last role of its time and whether every probe of it was answered; a piece without heartbeat is a gap,
which is the news.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from mirror_agent.contract import Phase, Role

from shared.model.document import ApiModel
from shared.model.node_state import HistoryEntry, ProbeOutcome, ProbeResult

ANSWERED = frozenset({ProbeOutcome.SERVING, ProbeOutcome.STANDBY})


class BeatPiece(ApiModel):
    beats: int = 0
    role: Role | None = None
    phase: Phase | None = None


class ProbePiece(ApiModel):
    """`worst` is set when a probe of this time was not answered."""

    probes: int = 0
    serving: bool = False
    worst: ProbeOutcome | None = None


class Strip(ApiModel):
    """Oldest piece first."""

    beats: tuple[BeatPiece, ...]
    probes: tuple[ProbePiece, ...]


def strip(
    entries: Iterable[HistoryEntry], probes: Iterable[ProbeResult], begin: datetime, pieces: int, piece: timedelta
) -> Strip:
    beats = [BeatPiece() for _ in range(pieces)]
    latest: list[datetime | None] = [None] * pieces
    for entry in entries:
        index = _index(entry.received_at, begin, pieces, piece)
        if index is None:
            continue
        before, at = beats[index], latest[index]
        newer = at is None or entry.received_at >= at
        beats[index] = BeatPiece(
            beats=before.beats + 1,
            role=entry.heartbeat.role if newer else before.role,
            phase=entry.heartbeat.phase if newer else before.phase,
        )
        latest[index] = entry.received_at if newer else at
    return Strip(beats=tuple(beats), probes=tuple(_probe_pieces(list(probes), begin, pieces, piece)))


def _probe_pieces(probes: Sequence[ProbeResult], begin: datetime, pieces: int, piece: timedelta) -> list[ProbePiece]:
    found = [ProbePiece() for _ in range(pieces)]
    for probe in probes:
        index = _index(probe.at, begin, pieces, piece)
        if index is None:
            continue
        before = found[index]
        found[index] = ProbePiece(
            probes=before.probes + 1,
            serving=before.serving or probe.outcome is ProbeOutcome.SERVING,
            worst=before.worst if probe.outcome in ANSWERED else probe.outcome,
        )
    return found


def _index(at: datetime, begin: datetime, pieces: int, piece: timedelta) -> int | None:
    index = (at - begin) // piece
    return index if 0 <= index < pieces else None
