"""What the accidents came to, in build/watch.json: one row each, with the commit that was run."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "build" / "watch.json"


def note(accident: str, **seconds_after: float) -> None:
    """Replaces the row of an earlier run of the same accident. `seconds_after` the accident, by what happened."""
    rows = [row for row in _rows() if row["accident"] != accident]
    rows.append(
        {
            "accident": accident,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "load_1m": round(os.getloadavg()[0], 1),
            **{name: round(value, 1) for name, value in seconds_after.items()},
        }
    )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"\n{json.dumps(rows[-1])}")


def _rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else []
    return rows


def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
