"""Install Azurite from npm, once, at the version package.json pins.

The lock file names no registry: npm takes the one the user configured. `node_modules` goes below the state directory
(`.lab/azurite-<version>/`), outside every Python tree. A stamp written last marks a complete install, so an interrupted
one is repeated; a file lock keeps two labs from installing at once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.paths import cache_root
from lab.stamp import digest_of, once

SOURCES: Final = Path(__file__).resolve().parent
MANIFESTS: Final = ("package.json", "package-lock.json", ".npmrc")
INSTALL_TIMEOUT_S: Final = 300


class AzuriteMissing(RuntimeError):
    """Node.js or npm is not there, or npm could not install; the message says which and what to do."""


def azurite_version() -> str:
    manifest = json.loads((SOURCES / "package.json").read_text())
    return str(manifest["dependencies"]["azurite"])


def node_missing() -> str | None:
    """One sentence on what is missing to run Azurite, or None."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            return f"{tool} is not on PATH; install Node.js with npm (Debian: apt-get install nodejs npm)"
    return None


def ensure_azurite() -> Path:
    """The directory that holds Azurite's `node_modules`; installs it when absent.

    Raises `AzuriteMissing` with a remedy.
    """
    directory = cache_root() / f"azurite-{azurite_version()}"
    wanted = digest_of((SOURCES / name).read_bytes() for name in MANIFESTS)
    once(directory, wanted, lambda: _install(directory))
    return directory


def _install(directory: Path) -> None:
    missing = node_missing()
    if missing is not None:
        raise AzuriteMissing(missing)
    for name in MANIFESTS:
        shutil.copyfile(SOURCES / name, directory / name)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise AzuriteMissing(f"npm ci in {directory} ended with {done.returncode}; is a registry reachable?\n{tail}")


if __name__ == "__main__":
    try:
        ensure_azurite()
    except AzuriteMissing as error:
        sys.exit(str(error))
