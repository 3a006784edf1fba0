"""Build the agent's wheel into build/wheels/, as a release would, when its sources have changed.

The build runs on a copy: setuptools leaves a `build/` directory beside the sources whose stale files would end up in
the next wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from lab.paths import REPOSITORY
from lab.stamp import digest_of_tree, once

WHEELS: Final = REPOSITORY / "build" / "wheels"
AGENT: Final = REPOSITORY / "agent"
BUILD_TIMEOUT_S: Final = 180
GIVEN: Final = "MIRRORPLANE_LAB_AGENT_WHEEL"
NOT_SOURCES: Final = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
SOURCE_DATE: Final = "1767225600"  # fixed, so that the same sources make the same wheel


class WheelFailed(RuntimeError):
    """The agent's wheel could not be built; the message holds the end of the build's output."""


def agent_wheel() -> Path:
    """The path of the wheel of the sources as they are now."""
    once(WHEELS, digest_of_tree(AGENT, ("*.py", "*.toml", "py.typed", "*.html", "*.css", "*.js", "*.sql")), _build)
    found = sorted(WHEELS.glob("mirror_agent-*.whl"))
    if len(found) != 1:
        raise WheelFailed(f"{WHEELS} holds {len(found)} agent wheels; delete the directory and run again")
    return found[0]


def offered_wheel() -> Path:
    """What the control plane boots its nodes with: `MIRRORPLANE_LAB_AGENT_WHEEL` (another release, among its siblings),
    or the wheel of the sources."""
    given = os.environ.get(GIVEN)
    if not given:
        return agent_wheel()
    if not Path(given).is_file():
        raise WheelFailed(f"{GIVEN}={given!r} is no file")
    return Path(given)


def build_wheel(sources: Path, directory: Path) -> None:
    """The wheel of a copy of the agent's sources, into `directory`. Raises WheelFailed."""
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*argv, "--wheel-dir", str(directory), str(sources)],
        env={**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise WheelFailed(f"pip wheel ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


def _build() -> None:
    for old in WHEELS.glob("mirror_agent-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="mirror-agent-build-") as scratch:
        copy = Path(scratch) / "agent"
        shutil.copytree(AGENT, copy, ignore=NOT_SOURCES)
        build_wheel(copy, WHEELS)


if __name__ == "__main__":
    agent_wheel()
