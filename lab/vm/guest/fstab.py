"""/etc/fstab and data disks: a disk of the lab is a directory, mounting it is a bind mount.

The host shows the disk of LUN n at /run/lab/disks/lunN. The names Azure's udev rules give a disk are understood:
/dev/disk/azure/scsi1/lunN, /dev/disk/azure/data/by-lun/N, each with an optional -partM.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

FSTAB = Path("/etc/fstab")
DISKS = Path("/run/lab/disks")
DEVICE = re.compile(r"/dev/disk/azure/(?:scsi1/lun|data/by-lun/)(\d+)(?:-part\d+)?")
MS_BIND = 4096


class MountFailed(RuntimeError):
    """A line of fstab that cannot be mounted; names device, mount point and reason."""


def disk_directory(device: str) -> Path:
    """The directory behind a device name. Raises `MountFailed` for a device the VM does not have."""
    match = DEVICE.fullmatch(device)
    if match is None:
        raise MountFailed(f"device {device!r} is not a data disk the lab knows (use /dev/disk/azure/scsi1/lunN)")
    directory = DISKS / f"lun{match[1]}"
    if not directory.is_dir():
        raise MountFailed(f"device {device!r}: no data disk is attached at LUN {match[1]}")
    return directory


def add_entry(device: str, mount_point: str, fs_type: str, options: str) -> None:
    line = f"{device}\t{mount_point}\t{fs_type}\t{options}\t0\t2\n"
    present = FSTAB.read_text() if FSTAB.exists() else ""
    if line not in present:
        FSTAB.write_text(present + line)


def mount_all() -> list[str]:
    """Mount what fstab names and is not mounted; one sentence per mount."""
    said: list[str] = []
    if not FSTAB.exists():
        return said
    for line in FSTAB.read_text().splitlines():
        fields = line.split()
        if len(fields) < 4 or line.startswith("#"):
            continue
        device, mount_point, options = fields[0], fields[1], fields[3]
        if os.path.ismount(mount_point):
            continue
        try:
            directory = disk_directory(device)
        except MountFailed:
            if "nofail" in options.split(","):
                said.append(f"{device} is not attached; {mount_point} not mounted (nofail)")
                continue
            raise
        Path(mount_point).mkdir(parents=True, exist_ok=True)
        bind(directory, Path(mount_point))
        said.append(f"mounted {device} at {mount_point}")
    return said


def unmounted_for(path: str) -> str | None:
    """The mount point of fstab that `path` lies on and that is not mounted; None when all is there."""
    if not FSTAB.exists():
        return None
    for line in FSTAB.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 4 and not line.startswith("#"):
            point = fields[1]
            if (path == point or path.startswith(point.rstrip("/") + "/")) and not os.path.ismount(point):
                return point
    return None


def bind(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), b"none", MS_BIND, None) != 0:
        number = ctypes.get_errno()
        raise MountFailed(f"cannot mount {source} at {target}: {os.strerror(number)}")
