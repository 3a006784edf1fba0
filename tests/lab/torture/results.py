"""What the torture runs came to: one row per run in build/torture.json, and their sums for the record.

Rows of different runs add up, so a campaign can be done in slices (`--seeds`), on one commit or several; each row says
which. `summary` counts the clean rows of one commit (or of all) and names every row that was not clean.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

ROWS: Final = Path("build/torture.json")
RECORD: Final = Path("bench/results/torture.json")

Row = dict[str, Any]


def commit() -> str:
    """Short name of the checked-out commit, with a plus sign if the tree was changed since."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "unknown"


def add(row: Row) -> None:
    """Appends one row; safe against other processes that do the same."""
    ROWS.parent.mkdir(exist_ok=True)
    with open(ROWS, "a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        rows = json.loads(stream.read() or "[]")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        rows.append({"at": now, "commit": commit(), **row})
        stream.seek(0)
        stream.truncate()
        json.dump(rows, stream, indent=1)


def rows() -> list[Row]:
    found: list[Row] = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else []
    return found


def machine() -> str:
    return f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def ranges(seeds: list[int]) -> str:
    """Sorted, neighbours joined: "0-3, 7"."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return dict(sorted(total.items()))


def summary(chosen: list[Row]) -> dict[str, Any]:
    """Sums of the clean rows per part and mode, and the others as they are."""
    clean = [row for row in chosen if row["clean"]]
    parts: dict[str, Any] = {}
    for part, mode in sorted({(row["part"], row["mode"]) for row in clean}):
        mine = [row for row in clean if (row["part"], row["mode"]) == (part, mode)]
        counts = [{key: value for key, value in row["figures"].items() if isinstance(value, int)} for row in mine]
        nested = {key for row in mine for key, value in row["figures"].items() if isinstance(value, dict)}
        parts.setdefault(part, {})[mode] = {
            "runs": len(mine),
            "seeds": ranges([row["seed"] for row in mine]),
            "seconds": round(sum(row["seconds"] for row in mine)),
            **_sum(counts),
            **{key: _sum([row["figures"].get(key, {}) for row in mine]) for key in sorted(nested)},
        }
    return {
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "make torture",
        "commits": sorted({row["commit"] for row in chosen}),
        "parts": parts,
        "not_clean": [row for row in chosen if not row["clean"]],
    }
