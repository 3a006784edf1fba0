"""Which labs live on this machine, and how what a dead one left is removed.

A lab registers in /run/mirrorplane-lab/<id>/owner.json (process id and its start time, so that a reused pid is not
taken for it) before it makes anything. Its processes are in the control group `mirrorplane-lab-<id>`, its namespaces
are named `mp-<id>-…`, its files lie below its state directory: `clean` needs only the id. Mounts of VMs need no
cleaning: they belong to VMs' mount namespaces and go with their processes; what is mounted below the lab's directory
on the machine itself (disk images of the fault matrix) is detached.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lab.fabric import internet, namespaces
from lab.fabric.cgroups import Group, hierarchy
from lab.vm.mounts import unmount

RUNTIME_ROOT: Final = Path("/run/mirrorplane-lab")
GROUP_PREFIX: Final = "mirrorplane-lab-"
KILL_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The daemon of a lab. `directory` is the lab's own state directory."""

    lab_id: str
    pid: int
    started: str  # field 22 of /proc/<pid>/stat, in clock ticks since boot
    directory: str

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.started


def runtime_directory(lab_id: str) -> Path:
    """Sockets live here: a short path, as Unix sockets want."""
    return RUNTIME_ROOT / lab_id


def group_of(lab_id: str) -> Group:
    return Group(hierarchy() / f"{GROUP_PREFIX}{lab_id}")


def register(lab_id: str, directory: Path) -> Owner:
    """Say that this process owns the lab."""
    owner = Owner(lab_id, os.getpid(), _start_time(os.getpid()) or "", str(directory))
    runtime = runtime_directory(lab_id)
    runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    (runtime / "owner.json").write_text(json.dumps(asdict(owner)))
    return owner


def owners() -> list[Owner]:
    """All registered labs, dead ones too."""
    found: list[Owner] = []
    for path in sorted(RUNTIME_ROOT.glob("*/owner.json")):
        try:
            found.append(Owner(**json.loads(path.read_text())))
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # being written or removed by another lab
    return found


def clean(owner: Owner) -> list[str]:
    """Remove what a dead lab left; words on what was removed. Blocking, may be repeated, one cleaner at a time."""
    RUNTIME_ROOT.mkdir(parents=True, exist_ok=True)
    with (RUNTIME_ROOT / "clean.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if owner not in owners():
            return []
        return remove_traces(owner.lab_id, Path(owner.directory))


def remove_traces(lab_id: str, directory: Path) -> list[str]:
    said: list[str] = []
    group = group_of(lab_id)
    if pids := group.pids():
        said.append(f"{len(pids)} processes")
    if group.path.exists():
        group.kill()
        group.wait_empty(KILL_TIMEOUT_S)
        group.remove()
    if removed := namespaces.delete_all_of(lab_id):
        said.append(f"{len(removed)} namespaces")
    internet.remove_service_link(lab_id)
    if mounts := _detach_below(directory):
        said.append(f"{len(mounts)} mounts")
    if directory.exists():
        said.append(f"directory {directory}")
        shutil.rmtree(directory)
    shutil.rmtree(runtime_directory(lab_id), ignore_errors=True)
    return said


def _detach_below(directory: Path) -> list[str]:
    """Loop devices free themselves when the last mount of them is gone."""
    targets = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [target for target in targets if target.startswith(f"{directory}/")]
    for target in reversed(found):
        unmount(target)
    return found


def traces(lab_id: str) -> list[str]:
    """Everything of the lab that still exists on this machine; empty after a clean end."""
    found = [f"namespace {name}" for name in namespaces.of_lab(lab_id)]
    group = group_of(lab_id)
    if group.path.exists():
        found.append(f"control group {group.path} with processes {group.pids()}")
    if Path(f"/sys/class/net/{internet.service_link(lab_id)}").exists():
        found.append(f"link {internet.service_link(lab_id)}")
    if runtime_directory(lab_id).exists():
        found.append(f"directory {runtime_directory(lab_id)}")
    return found


def _start_time(pid: int) -> str | None:
    """None for a process that is gone, or ended and only waits for its parent (state Z)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]
