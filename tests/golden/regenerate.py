"""Rewrite the decisions in the golden files from today's core, and show every change as a diff to be reviewed.

`python -m tests.golden.regenerate [--check]`; with --check nothing is written and a difference is exit code 1.
"""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

from tests.golden.situation import HERE, decided, files


def text_of(path: Path) -> str:
    """The file with the decision the core takes today."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({**content, "decides": decided(path)}, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    changed = 0
    for path in files():
        before, after = path.read_text(encoding="utf-8"), text_of(path)
        if before == after:
            continue
        changed += 1
        name = str(path.relative_to(HERE))
        sys.stdout.writelines(
            difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}")
        )
        if "--check" not in sys.argv:
            path.write_text(after, encoding="utf-8")
    print(f"{changed} of {len(files())} situations are decided differently")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
