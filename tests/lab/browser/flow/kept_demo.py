"""`make demo KEEP=1` as somebody runs it who has read only the README: of the lab is known what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.functions_host.process import REPOSITORY

# The whole story of the demo on a busy machine.
DEADLINE_S: Final = 600.0


@dataclass(frozen=True)
class KeptDemo:
    """`printed`: the moment (monotonic) at which the demo had said everything; `took_s` from its start until then."""

    console: str
    token: str
    ca: str
    began: float
    printed: float

    @property
    def url(self) -> str:
        return self.console.partition("/#")[0]

    @property
    def took_s(self) -> float:
        return self.printed - self.began


@contextmanager
def kept_demo(state: Path) -> Iterator[KeptDemo]:
    """The lab it leaves is taken down at the end, also when it failed half-way."""
    environment = {**os.environ, "KEEP": "1", "MIRRORPLANE_LAB_STATE": str(state)}
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lab.demo", "ledger"],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        printed = time.monotonic()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        yield KeptDemo(
            console=_said(r"the console: (\S+)", done.stdout),
            token=_said(r"sign in with the token (\S+)", done.stdout),
            ca=_said(r"the browser has to trust (\S+)", done.stdout),
            began=began,
            printed=printed,
        )
    finally:
        down = [sys.executable, "-m", "lab", "--state", str(state), "down"]
        ended = subprocess.run(down, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        print(ended.stdout, ended.stderr, sep="", flush=True)


def _said(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    assert found is not None, f"the demo does not say {pattern!r}: {output}"
    return found.group(1)
