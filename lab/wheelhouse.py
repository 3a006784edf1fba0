"""Fill the wheelhouse: the agent's dependencies as wheels for the Python of the lab's VMs.

A VM of the lab has no way out to a package index. Its /etc/pip.conf names this directory, as a company's image would
name the company's mirror. The wheels are for /usr/bin/python3, because the VM's root file system is the machine's own;
versions are the pins of requirements.txt where they name the same package.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from lab.paths import REPOSITORY, cache_root
from lab.stamp import digest_of, once

VM_PYTHON: Final = "/usr/bin/python3"
DOWNLOAD_TIMEOUT_S: Final = 600


class WheelhouseFailed(RuntimeError):
    """pip could not get or build a wheel; the message says which and what pip said."""


def wheelhouse() -> Path:
    """The directory with all wheels an agent needs, filled when absent or when a pin has changed."""
    directory = cache_root() / "wheelhouse"
    dependencies = _agent_dependencies()
    pins = _pins()
    python = _run([VM_PYTHON, "-VV"], timeout_s=30)
    wanted = digest_of(part.encode() for part in (python, *dependencies, *pins))
    once(directory, wanted, lambda: _fill(directory, dependencies, pins))
    return directory


def _agent_dependencies() -> list[str]:
    project = tomllib.loads((REPOSITORY / "agent" / "pyproject.toml").read_text())["project"]
    return [str(line) for line in project["dependencies"]]


def _pins() -> list[str]:
    lines = (line.split("#")[0].strip() for line in (REPOSITORY / "requirements.txt").read_text().splitlines())
    return [line for line in lines if "==" in line]


def _fill(directory: Path, dependencies: list[str], pins: list[str]) -> None:
    for old in directory.glob("*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="wheelhouse-") as scratch:
        _run([VM_PYTHON, "-m", "venv", scratch], timeout_s=120)
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text("\n".join(pins) + "\n")
        pip = [f"{scratch}/bin/python", "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--wheel-dir", str(directory), "--constraint", str(constraints), *dependencies])


def _run(argv: list[str], timeout_s: float = DOWNLOAD_TIMEOUT_S) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise WheelhouseFailed(f"{' '.join(argv[:4])} … ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        wheelhouse()
    except WheelhouseFailed as error:
        sys.exit(str(error))
