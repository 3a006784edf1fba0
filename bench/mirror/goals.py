"""The speeds the project set itself, as rows to compare with the measured ones. Nothing is asserted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.mirror import rows
from bench.mirror.candidates import GLUSTERFS, ORDERED, RAW, STRICT
from bench.mirror.network import FAR_ADDED_MS, NEAR


@dataclass(frozen=True)
class Goal:
    """`column` of `row` is at least `factor` times as good as `against`; `against` None: at least `factor` units."""

    row: rows.Row
    link_ms: float
    column: str
    against: str | None
    factor: float

    def text(self) -> str:
        if self.against is None:
            return f"≥ {self.factor:g} {self.row.unit}"
        return f"≥ {self.factor:g} × {'GlusterFS' if self.against == GLUSTERFS else self.against}"


def _near(row: rows.Row, column: str, factor: float, against: str | None = GLUSTERFS) -> Goal:
    return Goal(row, 0, column, against, factor)


def _far(row: rows.Row, factor: float) -> Goal:
    return Goal(row, FAR_ADDED_MS, ORDERED, GLUSTERFS, factor)


_STRICT_FACTORS: Final = {rows.FSYNC: 1.4, rows.SQLITE_WAL: 3.0, rows.CREATE: 3.5}

GOALS: Final = (
    _near(rows.FSYNC, ORDERED, 1.8),
    _near(rows.FSYNC_4, ORDERED, 2.0),
    _near(rows.PGBENCH_8, ORDERED, 1.9),
    _near(rows.PGBENCH_8, ORDERED, 0.40, RAW),
    _near(rows.PGBENCH_1, ORDERED, 1.4),
    _near(rows.PGBENCH_1, ORDERED, 0.65, RAW),
    _near(rows.SQLITE_WAL, ORDERED, 4.7),
    _near(rows.CREATE, ORDERED, 6.0),
    _near(rows.RENAME, ORDERED, 6.0),
    _near(rows.UNLINK, ORDERED, 6.0),
    _near(rows.UNTAR, ORDERED, 6.0),
    _near(rows.SEQUENTIAL_128K, ORDERED, 1.5),
    _near(rows.SEQUENTIAL_1M, ORDERED, 1.5),
    _near(rows.BULK, ORDERED, 500, None),
    _near(rows.READ_WARM, ORDERED, 1.0),
    _near(rows.STAT, ORDERED, 1.0),
    _near(rows.RESYNC_FACTOR, STRICT, 10, None),
    _near(rows.RESYNC_WRITES, STRICT, 70, None),
    _far(rows.PGBENCH_8, 2.2),
    _far(rows.CREATE, 12.0),
    _far(rows.UNTAR_FEW, 15.0),
    *(
        _near(row, STRICT, _STRICT_FACTORS.get(row, 1.0))
        for load in rows.LOADS
        if NEAR in load.links
        for row in load.rows
    ),
)


@dataclass(frozen=True)
class Standing:
    """`reached` None: one of the two figures is missing."""

    goal: Goal
    measured: float | None
    reached: bool | None


def standings(recorded: Sequence[Mapping[str, Any]], goals: Sequence[Goal] = GOALS) -> list[Standing]:
    """`recorded`: the rows of the JSON document."""
    found = {(entry["row"], entry["link_ms"]): entry for entry in recorded}
    return [_standing(goal, found.get((goal.row.name, goal.link_ms), {})) for goal in goals]


def _standing(goal: Goal, entry: Mapping[str, Any]) -> Standing:
    own = entry.get(goal.column)
    if own is None:
        return Standing(goal, None, None)
    if goal.against is None:
        return Standing(goal, own, own >= goal.factor)
    other = entry.get(goal.against)
    if not other:
        return Standing(goal, None, None)
    measured = own / other if goal.row.higher else other / own
    return Standing(goal, measured, measured >= goal.factor)
