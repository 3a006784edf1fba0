"""Results as lines, as build/faults.json, as percentiles, and the list of cases for the docs."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lab.faults.model import Case, Result, Service
from lab.paths import REPOSITORY

FILE: Final = "faults.json"
# The promise to users: with the default time budget and a probe every 5 s (docs/safety.md), for accidents of these
# kinds. What else counts as unplanned has a second accident in it (a slow witness, a control plane that is away).
PROMISED_KINDS: Final = frozenset({"kill", "freeze", "link"})
UNPLANNED_P50_S: Final = 8.0
UNPLANNED_P99_S: Final = 12.0
# Two seconds, plus stop and start of the ledger (a Python interpreter each).
PLANNED_S: Final = 4.0


@dataclass
class Book:
    """All results so far, and the evidence of the failed ones by case and run."""

    results: list[Result] = field(default_factory=list)
    proofs: dict[str, Any] = field(default_factory=dict)

    def add(self, result: Result, proof: dict[str, Any]) -> None:
        """The newest result of a case and run is the one that counts (`--append`)."""
        same = (result.name, result.run)
        self.results = [earlier for earlier in self.results if (earlier.name, earlier.run) != same]
        self.results.append(result)
        title = f"{result.name} (run {result.run})"
        self.proofs.pop(title, None)
        if proof:
            self.proofs[title] = proof


def load(build: Path) -> Book:
    path = build / FILE
    if not path.exists():
        return Book()
    document = json.loads(path.read_text())
    results = [Result(**{**entry, "findings": tuple(entry["findings"])}) for entry in document["cases"]]
    return Book(results, document["evidence"])


def write(build: Path, book: Book) -> None:
    document = {
        "made": circumstances(),
        "summary": summary(book),
        "cases": [asdict(result) for result in book.results],
        "evidence": book.proofs,
    }
    (build / FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def circumstances() -> dict[str, Any]:
    """Where and when the figures are from; the load is that of the last minute, the run's own included."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}",
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": found.stdout.strip() if found.returncode == 0 else "unknown",
        "load_1_min": round(os.getloadavg()[0], 1),
    }


def percentile(values: Iterable[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def outages(book: Book, service: Service) -> list[float]:
    return [result.outage_s for result in book.results if result.service == service.value and result.outage_s > 0]


def promised(book: Book) -> list[float]:
    """Unplanned outages of the kinds the promise is about."""
    return outages(Book([result for result in book.results if result.kind in PROMISED_KINDS]), Service.UNPLANNED)


def summary(book: Book) -> dict[str, Any]:
    unplanned, planned = promised(book), outages(book, Service.PLANNED)
    changed = [result for result in book.results if result.primary_changes]
    takeovers = promised(Book(changed))
    others = outages(Book([r for r in book.results if r.kind not in PROMISED_KINDS]), Service.UNPLANNED)
    return {
        "cases": len(book.results),
        "failed": sum(1 for result in book.results if not result.ok),
        "acknowledged_writes": sum(result.acknowledged_writes for result in book.results),
        "lost_writes": sum(result.lost_writes for result in book.results),
        "unplanned": {"count": len(unplanned)} | _spread(unplanned),
        "takeover": {"count": len(takeovers)} | _spread(takeovers),  # those of `unplanned` in which the primary changed
        "other": {"count": len(others)} | _spread(others),  # unplanned, of other kinds
        "planned": {"count": len(planned)} | _spread(planned),
        "duration_s": round(sum(result.duration_s for result in book.results)),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "outage_s_p50": percentile(values, 0.5),
        "outage_s_p99": percentile(values, 0.99),
        "outage_s_max": max(values, default=0.0),
    }


def complaints(book: Book) -> list[str]:
    """What keeps the matrix from passing: findings, and percentiles over the promise."""
    found = [f"{result.name}: {finding}" for result in book.results for finding in result.findings]
    unplanned, planned = promised(book), outages(book, Service.PLANNED)
    for share, limit_s in ((0.5, UNPLANNED_P50_S), (0.99, UNPLANNED_P99_S)):
        value = percentile(unplanned, share)
        if value > limit_s:
            found.append(f"unplanned outage p{share * 100:.0f} is {value:.1f} s, promised are {limit_s:g} s")
    if percentile(planned, 0.5) > PLANNED_S:
        found.append(f"planned outage p50 is {percentile(planned, 0.5):.1f} s, promised are {PLANNED_S:g} s")
    return found


def passed(book: Book) -> bool:
    return not complaints(book)


def line(result: Result) -> str:
    mark = "ok  " if result.ok else "FAIL"
    head = f"{mark} {result.kind:<13} {result.name:<58} {result.service:<9}"
    figures = f"outage {result.outage_s:5.1f} s  acked {result.acknowledged_writes:5}  lost {result.lost_writes}"
    stale = f"  stale reads {result.stale_s:.1f} s" if result.stale_s > 0 else ""
    rest = "".join(f"\n       {finding}" for finding in result.findings)
    return f"{head} {figures}  {result.duration_s:5.1f} s{stale}{rest}"


def summary_text(book: Book) -> str:
    figures = summary(book)
    lines = ["", *map(line, book.results), ""]
    lines.append(
        f"{figures['cases']} cases, {figures['failed']} failed, {figures['acknowledged_writes']} acknowledged writes, "
        f"{figures['lost_writes']} lost, {figures['duration_s']} s"
    )
    for name in ("unplanned", "takeover", "other", "planned"):
        spread = figures[name]
        lines.append(
            f"{name} outage over {spread['count']} cases: p50 {spread['outage_s_p50']:.1f} s, "
            f"p99 {spread['outage_s_p99']:.1f} s, longest {spread['outage_s_max']:.1f} s"
        )
    lines += [f"not met: {complaint}" for complaint in complaints(book)]
    return "\n".join(lines)


def listing(cases: Sequence[Case]) -> str:
    return "\n".join(f"{case.kind:<13} {case.name}" for case in cases)


def markdown(cases: Sequence[Case]) -> str:
    """The table of docs/faults.md."""
    rows = ["| kind | case | what must happen | service | primary |", "| --- | --- | --- | --- | --- |"]
    for case in cases:
        limit = "" if case.limit_s is None else f", at most {case.limit_s:g} s"
        service = f"{case.service.value}{limit}"
        rows.append(f"| {case.kind} | {case.name} | {case.must} | {service} | {case.primary.value} |")
    return "\n".join(rows)
