"""From samples to rows: medians, the raw disk in both wires' rows, costs of encryption, goals."""

from __future__ import annotations

from bench.mirror import goals, report, rows
from bench.mirror.network import FAR, NEAR
from bench.mirror.rounds import Key, Measurements, cpu_title, format_value, rows_of

FSYNC_LOAD = rows.LOADS[0]
NAMES_LOAD = next(load for load in rows.TLS_LOADS if load.rows[0] is rows.CREATE)


def measured(**figures: list[float]) -> Measurements:
    """Keyword `candidate_link`."""
    found = Measurements()
    for place, values in figures.items():
        candidate, link = place.rsplit("_", 1)
        found.values[Key(rows.FSYNC.name, link, candidate)] = values
    return found


def test_a_row_holds_medians_and_the_raw_disk_stands_on_both_wires() -> None:
    found = measured(raw_near=[9000, 1, 8000], glusterfs_near=[900, 1000, 5], strict_far=[400, 500, 450])
    near, far = report.speed_rows(found, [FSYNC_LOAD])
    assert near == {
        "row": rows.FSYNC.name,
        "link_ms": 0,
        "unit": "ops/s",
        "raw": 8000.0,
        "glusterfs": 900.0,
        "strict": None,
        "ordered": None,
    }
    assert (far["link_ms"], far["raw"], far["strict"]) == (0.5, 8000.0, 450.0)


def test_every_near_row_comes_before_the_first_far_one() -> None:
    links = [link for _, link in rows_of(rows.LOADS)]
    assert links == sorted(links, key=[NEAR, FAR].index)
    assert len({row.name for row, _ in rows_of(rows.LOADS)}) == sum(len(load.rows) for load in rows.LOADS)


def test_processor_time_of_rows_of_one_load_is_one_row() -> None:
    found = Measurements()
    found.cpu_us[Key(cpu_title(NAMES_LOAD), NEAR, "ordered")] = [200.0, 100.0, 150.0]
    (row,) = report.cpu_rows(found, [NAMES_LOAD])
    assert (row["row"], row["unit"], row["ordered"]) == ("CPU: create + rename + unlink", "µs/op", 150.0)


def test_the_cost_of_encryption_compares_the_medians_of_twins() -> None:
    found = measured(ordered_near=[900, 850, 10], strict_near=[500])
    found.values[Key(rows.FSYNC.name, NEAR, "ordered-plain")] = [1000, 990, 1100]
    found.cpu_us[Key(rows.FSYNC.name, NEAR, "ordered")] = [120.0]
    found.cpu_us[Key(rows.FSYNC.name, NEAR, "ordered-plain")] = [100.0]
    speed, processor = report.tls_rows(found, [FSYNC_LOAD])
    assert (speed["ordered"], speed["strict"]) == (15.0, None)
    assert processor["ordered"] == 20.0


def entry(row: rows.Row, **columns: float | None) -> dict[str, object]:
    return {"row": row.name, "link_ms": 0, "unit": row.unit, **columns}


def test_a_goal_is_reached_by_being_so_many_times_as_good() -> None:
    recorded = [
        entry(rows.FSYNC, raw=8000, glusterfs=1000, strict=1500, ordered=1700),
        entry(rows.UNTAR, raw=0.1, glusterfs=6.0, strict=3.0, ordered=1.0),
    ]
    verdicts = {
        (standing.goal.row.name, standing.goal.column): (standing.measured, standing.reached)
        for standing in goals.standings(recorded)
        if standing.goal.link_ms == 0 and standing.goal.against != "raw"
    }
    assert verdicts[rows.FSYNC.name, "ordered"] == (1.7, False)
    assert verdicts[rows.FSYNC.name, "strict"] == (1.5, True)
    assert verdicts[rows.UNTAR.name, "ordered"] == (6.0, True)
    assert verdicts[rows.CREATE.name, "ordered"] == (None, None)


def test_every_goal_names_a_row_that_is_measured_on_its_wire() -> None:
    known = {(row.name, 0 if link == NEAR else 0.5) for row, link in rows_of(rows.LOADS)}
    known |= {(row.name, 0) for row in (rows.RESYNC_FACTOR, rows.RESYNC_WRITES)}
    assert {(goal.row.name, goal.link_ms) for goal in goals.GOALS} <= known


def test_figures_have_three_digits() -> None:
    assert [format_value(value) for value in (0.0312, 7.456, 45.67, 12345.6)] == ["0.03", "7.46", "45.7", "12 346"]


def test_a_resync_is_told_as_times_a_factor_and_what_the_application_kept() -> None:
    found = {
        "copy": {"seconds": 12.0},
        "ranges": {"seconds": 0.4},
        "application": {
            "while_compared_per_s": 850,
            "connected_after_compared_per_s": 1000,
            "while_copied_per_s": 800,
            "connected_after_copied_per_s": 1000,
        },
    }
    entries = {entry["row"]: entry["strict"] for entry in report.resync_rows(found)}
    assert entries == {
        rows.RESYNC_COPY.name: 12.0,
        rows.RESYNC_CHANGED.name: 0.4,
        rows.RESYNC_FACTOR.name: 30.0,
        rows.RESYNC_WRITES.name: 80.0,
    }
    standings = goals.standings(report.resync_rows(found))
    assert [one.reached for one in standings if one.goal.row in (rows.RESYNC_FACTOR, rows.RESYNC_WRITES)] == [
        True,
        True,
    ]
