"""The recorded result as text, and its place in the document."""

from __future__ import annotations

import pytest

from bench.mirror import rows, table

RESULT = {
    "machine": "2 CPUs.",
    "date": "2026-11-22",
    "command": "make bench",
    "rounds": 3,
    "round_trip_ms": {"near": 0.016, "far": 0.51},
    "ground": "two ext4",
    "glusterfs_version": "10.3",
    "failures": ["untar, far, strict: it ended\nwith much to say"],
    "rows": [
        {
            "row": rows.FSYNC.name,
            "link_ms": 0,
            "unit": "ops/s",
            "raw": 8000.0,
            "glusterfs": 1000.0,
            "strict": 1500.0,
            "ordered": 2000.0,
        },
        {
            "row": rows.UNTAR.name,
            "link_ms": 0.5,
            "unit": "s",
            "raw": 0.1,
            "glusterfs": 20.0,
            "strict": None,
            "ordered": 1.0,
        },
        {
            "row": "memory, node a",
            "link_ms": 0,
            "unit": "MiB",
            "raw": None,
            "glusterfs": 90.0,
            "strict": 45.0,
            "ordered": 50.0,
        },
    ],
}


def test_ratios_say_how_many_times_as_good() -> None:
    lines = table.render(RESULT).splitlines()
    assert f"| {rows.FSYNC.name} (ops/s) | 8 000 | 1 000 | 1 500 | 1.50 | 2 000 | 2.00 | 0.25 |" in lines
    assert f"| {rows.UNTAR.name} (s) | 0.10 | 20.0 | – | – | 1.00 | 20.00 | 0.10 |" in lines
    assert "| memory, node a (MiB) | – | 90.0 | 45.0 | 2.00 | 50.0 | 1.80 | – |" in lines


def test_holes_and_missed_goals_are_said() -> None:
    text = table.render(RESULT)
    assert "- untar, far, strict: it ended\n" in text
    assert f"| {rows.FSYNC.name} | near | ordered | ≥ 1.8 × GlusterFS | 2.00 × | reached |" in text
    assert f"| {rows.CREATE.name} | near | ordered | ≥ 6 × GlusterFS | – | not measured |" in text


def test_the_document_gets_the_text_between_its_markers_and_only_there() -> None:
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.included(document, "new\n")
    assert once == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    assert table.included(once, "new\n") == once


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="mark the place of the table"):
        table.included("no markers", "new")
