"""Run the system's tools; a failure names the command and what it said.

Guarantee: no command outlives its time limit.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

COMMAND_S: Final = 60.0
_SAID_CHARS_MAX: Final = 2000
# Debian keeps fsck, glusterd and their like where an ordinary PATH does not look.
SEARCH_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class BenchError(Exception):
    """The benchmark cannot go on, or a figure would be void; the message says what to do."""


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = COMMAND_S,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Standard output of a command that ends by itself. Raises `BenchError`."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=cwd,
            env={**os.environ, "PATH": SEARCH_PATH, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise BenchError(f"{argv[0]} is not installed: {error}") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(argv)} did not end within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-_SAID_CHARS_MAX:]
        raise BenchError(f"{' '.join(argv)} ended with {done.returncode}: {said}")
    return done.stdout
