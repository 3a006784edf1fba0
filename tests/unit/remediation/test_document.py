"""docs/remediation.md says what the code decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_document_is_in_step_and_no_rule_is_dead() -> None:
    command = [sys.executable, str(ROOT / "tools" / "remediation_doc.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
