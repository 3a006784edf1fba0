"""On Windows `mirrorctl` reaches the agent by a port of the loopback and a secret in a private file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.windows_parts import AGENT

PROGRAM = Path(__file__).with_name("loopback_line.py")


def test_only_who_can_read_the_file_is_answered(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path / "agent.sock")],
        env={"PYTHONPATH": f"{AGENT}:{AGENT.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "known: administrator",
        "wrong: refused: somebody without the secret",
        "short: refused: somebody without the secret",
        f"second: another agent answers by {tmp_path / 'agent.sock'}; stop it first: sc.exe stop mirrorplane-agent",
        "gone: ConnectionRefusedError",
    ]
