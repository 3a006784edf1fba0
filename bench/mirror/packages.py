"""What the benchmark needs of Debian: looks for it, installs it as root, says it in one line otherwise.

Debian starts services when it installs them; policy-rc.d is its documented way to say no. Ours exists during the
installation only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.mirror.commands import SEARCH_PATH, BenchError

_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT: Final = "#!/bin/sh\nexit 101\n"
_INSTALL_S: Final = 900.0
# Command looked for -> package that brings it.
_COMMANDS: Final = {
    "fio": "fio",
    "glusterd": "glusterfs-server",
    "glusterfs": "glusterfs-client",
    "mount.glusterfs": "glusterfs-client",
    "pgbench": "postgresql",
    "tar": "tar",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
}


def postgres_bin() -> Path | None:
    """Directory of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else None


def missing_packages() -> list[str]:
    needed = {package for command, package in _COMMANDS.items() if shutil.which(command, path=SEARCH_PATH) is None}
    if postgres_bin() is None:
        needed.add("postgresql")
    return sorted(needed)


@contextmanager
def _services_stay_down() -> Iterator[None]:
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", *arguments], capture_output=True, text=True, timeout=_INSTALL_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"apt-get {arguments[0]} did not end within {_INSTALL_S:.0f} s") from None
    if done.returncode != 0:
        line = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise BenchError(f"apt-get {' '.join(arguments)} failed: {line}")


def ensure_packages() -> None:
    """Raises `BenchError` with one line if something is missing and cannot be installed."""
    missing = missing_packages()
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise BenchError(f"not installed: {names}; only root can install them: sudo apt-get install {names}")
    if shutil.which("apt-get") is None:
        raise BenchError(f"not installed: {names}; there is no apt-get here, install by hand what provides them")
    print(f"bench: installing Debian packages: {names}", flush=True)
    with _services_stay_down():
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *missing)
    if still := missing_packages():
        raise BenchError(f"apt-get ended well, but this is still missing: {' '.join(still)}")
