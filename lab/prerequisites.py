"""What this machine lacks to run the lab, one sentence each with the remedy. Standard library only, changes nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

TOOLS: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "haproxy": "haproxy",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "openssl": "openssl",
}
SYSTEM_PATH: Final = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def tool(name: str) -> str | None:
    """Full path of a system tool; looks where root's PATH would even if ours is a user's."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_PATH)))


@cache
def missing_for_azurite() -> tuple[str, ...]:
    return tuple(
        f"{name} is not installed (apt-get install nodejs npm)" for name in ("node", "npm") if tool(name) is None
    )


@cache
def missing_for_browser() -> tuple[str, ...]:
    return () if tool("chromium") is not None else ("chromium is not installed (apt-get install chromium)",)


@cache
def missing_for_lab() -> tuple[str, ...]:
    """Everything that keeps namespaces, VMs and the load balancer from working here; empty when they can."""
    found = [
        f"{name} is not installed (apt-get install {package})" for name, package in TOOLS.items() if not tool(name)
    ]
    if os.geteuid() != 0:
        return (*found, "not root: namespaces, bridges and mounts need it (run with sudo)")
    try:
        if not stat.S_ISCHR(Path("/dev/fuse").stat().st_mode):
            found.append("/dev/fuse is not a device (modprobe fuse)")
    except FileNotFoundError:
        found.append("/dev/fuse is not there (modprobe fuse; a container needs --device /dev/fuse)")
    if not found and _namespaces_refused():
        found.append("namespaces cannot be made (a container needs --privileged)")
    file_systems = Path("/proc/filesystems").read_text().split()
    found += [
        f"the kernel has no {name} (modprobe {name}, or a newer kernel)"
        for name in ("overlay", "cgroup2")
        if name not in file_systems
    ]
    if not Path("/usr/bin/python3").exists():
        found.append("/usr/bin/python3 is not there: the VMs boot with it (apt-get install python3 python3-venv)")
    return tuple(found)


def _namespaces_refused() -> bool:
    argv = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "true"]
    return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode != 0
