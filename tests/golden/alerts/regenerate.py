"""Rewrite what happens in the scenarios from today's code, and show every change as a diff to be reviewed.

`python -m tests.golden.alerts.regenerate [--check]`; with --check nothing is written and a difference is exit code 1.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import sys
from pathlib import Path

from tests.golden.alerts.scenario import content_of, files, played


def text_of(path: Path) -> str:
    content = content_of(path)
    return json.dumps({**content, "steps": asyncio.run(played(content["steps"]))}, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    changed = 0
    for path in files():
        before, after = path.read_text(encoding="utf-8"), text_of(path)
        if before == after:
            continue
        changed += 1
        sys.stdout.writelines(
            difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path.name}", f"b/{path.name}")
        )
        if "--check" not in sys.argv:
            path.write_text(after, encoding="utf-8")
    print(f"{changed} of {len(files())} scenarios play differently")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
