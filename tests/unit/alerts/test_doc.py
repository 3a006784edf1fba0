"""docs/alerts.md says what the code does, and every rule it lists is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.alerts.rules import ALERTS, MUTES, NOTICES, STEPS

ROOT = Path(__file__).parents[3]


def test_the_document_is_in_step() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "alerts_doc.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_rule_is_dead() -> None:
    files = [file for file in (ROOT / "shared" / "alerts").glob("*.py") if file.name != "rules.py"]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for rule in [*ALERTS, *STEPS, *MUTES]:
        assert f'"{rule}"' in text, f"{rule} is nowhere used"
    assert {rule for rule in NOTICES if f'"{rule}"' not in text} == {
        rule for rule in NOTICES if rule.startswith("tell-")
    }, "the others are made of the reason: tell-fired, tell-resolved…"
