"""The document of the rules cannot fall behind them, and no rule is named in vain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.health.rules import RULES

ROOT = Path(__file__).parents[3]


def test_the_document_is_generated_from_the_rules() -> None:
    done = subprocess.run(
        [sys.executable, "tools/verdicts_doc.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_rule_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "shared/health").glob("*.py") if path.name != "rules.py"
    )
    assert [rule for rule in RULES if f'"{rule}"' not in code] == ["serving-is-sacred"], "it is an invariant of `_sick`"
