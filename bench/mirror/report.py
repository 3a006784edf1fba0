"""From samples to the recorded result: one JSON document, medians only, no address or path of the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.mirror.candidates import COLUMNS, GLUSTERFS, ORDERED, RAW, STRICT
from bench.mirror.network import FAR_ADDED_MS, NEAR
from bench.mirror.rounds import Key, Measurements, cpu_title, rows_of
from bench.mirror.rows import RESYNC_CHANGED, RESYNC_COPY, RESYNC_FACTOR, RESYNC_WRITES, Load

_GIB: Final = 1 << 30
_DIGITS: Final = 4
PLAIN: Final = "-plain"


def machine(others_percent: float, load_before: float) -> str:
    """What was measured on, and how much of it others used meanwhile."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return (
        f"{os.cpu_count()} CPUs ({_processor()}), {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; application, both nodes and the far wire share the CPUs. "
        f"The machine was shared: other work took {others_percent:.0f} % of its processor time during the run "
        f"(load average {load_before:.1f} before it). Ratios mean more than absolute figures."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _entry(name: str, link: str, unit: str, values: Mapping[str, float | None]) -> dict[str, Any]:
    columns = {column: _rounded(values.get(column)) for column in COLUMNS}
    return {"row": name, "link_ms": 0 if link == NEAR else FAR_ADDED_MS, "unit": unit, **columns}


def speed_rows(found: Measurements, loads: Sequence[Load]) -> list[dict[str, Any]]:
    """The raw disk has no wire: its figure stands in the rows of both."""
    entries = []
    for row, link in rows_of(loads):
        values = {name: found.median(Key(row.name, link, name)) for name in COLUMNS}
        raw = [found.median(key) for key in found.values if (key.row, key.candidate) == (row.name, RAW)]
        values[RAW] = raw[0] if raw else None
        entries.append(_entry(row.name, link, row.unit, values))
    return entries


def cpu_rows(found: Measurements, loads: Sequence[Load]) -> list[dict[str, Any]]:
    """Processor time of all daemons of both nodes per operation, near."""
    entries = []
    for load in loads:
        if load.cpu:
            title = cpu_title(load)
            values = {name: found.median_cpu_us(Key(title, NEAR, name)) for name in COLUMNS}
            entries.append(_entry(f"CPU: {title}", NEAR, f"µs/{load.cpu}", values))
    return entries


def _cost_percent(encrypted: Sequence[float], plain: Sequence[float], *, higher: bool) -> float | None:
    """What encryption takes away of the plain median, in per cent."""
    if not encrypted or not plain:
        return None
    with_it, without = statistics.median(encrypted), statistics.median(plain)
    return (1 - with_it / without) * 100 if higher else (with_it / without - 1) * 100


def tls_rows(found: Measurements, loads: Sequence[Load]) -> list[dict[str, Any]]:
    """`found` holds the candidates and their `-plain` twins, measured in the same rounds. Processor time as well: it
    suffers less from what else the machine does."""
    entries = []
    for load in loads:
        row, title = load.rows[0], cpu_title(load)
        for what, samples, higher in (
            (row.name, {key: values for key, values in found.values.items() if key.row == row.name}, row.higher),
            (
                f"processor time, {title}",
                {key: values for key, values in found.cpu_us.items() if key.row == title},
                False,
            ),
        ):
            own = {key.candidate: values for key, values in samples.items()}
            costs = {
                name: _cost_percent(own.get(name, ()), own.get(name + PLAIN, ()), higher=higher)
                for name in (STRICT, ORDERED)
            }
            entries.append(_entry(f"TLS cost: {what}", NEAR, "%", costs))
    return entries


def resync_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`found`: what bench.mirror.resync wrote."""
    copied_s, changed_s = found["copy"]["seconds"], found["ranges"]["seconds"]
    rates = found["application"]
    kept = min(rates[f"while_{what}_per_s"] / rates[f"connected_after_{what}_per_s"] for what in ("compared", "copied"))
    figures = (
        (RESYNC_COPY, copied_s),
        (RESYNC_CHANGED, changed_s),
        (RESYNC_FACTOR, copied_s / changed_s),
        (RESYNC_WRITES, kept * 100),
    )
    return [_entry(row.name, NEAR, row.unit, {STRICT: value}) for row, value in figures]


def memory_rows(
    peaks: Mapping[tuple[str, str], float], per_thousand_files_kib: Mapping[str, float]
) -> list[dict[str, Any]]:
    """`peaks`: (candidate, node) -> MiB at the end of the run."""
    entries = [
        _entry(
            f"memory, node {node} ({what}), peak of the whole run",
            NEAR,
            "MiB",
            {name: peaks.get((name, node)) for name in (GLUSTERFS, STRICT, ORDERED)},
        )
        for node, what in (("a", "primary"), ("b", "replica"))
    ]
    entries.append(_entry("memory, both nodes, per 1,000 files in use", NEAR, "KiB", per_thousand_files_kib))
    return entries
