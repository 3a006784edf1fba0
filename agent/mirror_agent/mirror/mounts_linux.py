"""Mounting the front over a directory, and getting rid of it again without ever touching what is inside.

Guarantee: `abort` never blocks on the file system it removes: it finds the mount in /proc/self/mountinfo (which asks no
file system), aborts the FUSE connection through fusectl and umount's MNT_FORCE, and detaches it. After that every
pending and later call of an application fails with ENOTCONN instead of hanging. `disconnect` does the same and leaves
the dead mount where it is: below it lies the directory itself, and an application that lives on for a moment and opens
its files anew would write there, unreplicated (found by the fault matrix: an acknowledged write was missing).

Limits: only mounts of our own source name are touched; mounts in other mount namespaces die with the connection but
stay visible there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mirror_agent.mirror import syscalls
from mirror_agent.mirror.limits import MAX_WRITE_BYTES

SOURCE: Final = "mirrorplane"
FS_TYPE: Final = "fuse.mirrorplane"
FUSECTL: Final = "/sys/fs/fuse/connections"
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
HOLDERS_NAMED_MAX: Final = 8


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo that is ours. `minor` is the number of the FUSE connection."""

    path: str
    minor: int


def _unescape(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def _resolved(path: str) -> str:
    """Links above the directory are resolved as mount does it; the directory itself must not be asked."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def mounted(path: str) -> list[Mounted]:
    """Our mounts on exactly this path, the topmost last."""
    path = _resolved(path)
    found = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            parts = line.split()
            tail = parts.index(b"-")
            if parts[tail + 1] != FS_TYPE.encode() or parts[tail + 2] != SOURCE.encode():
                continue
            if _unescape(parts[4]) == path:
                found.append(Mounted(path, int(parts[2].split(b":")[1])))
    return found


def mount_front(fuse_fd: int, path: str) -> None:
    """Mounts the FUSE connection of `fuse_fd` over `path`; the kernel checks permissions (default_permissions)."""
    options = (
        f"fd={fuse_fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_WRITE_BYTES}"
    )
    syscalls.mount(SOURCE, path, FS_TYPE, 0, options)


def _abort_connection(minor: int) -> bool:
    """False where fusectl is not to be had; MNT_FORCE aborts the connection as well."""
    try:
        with open(f"{FUSECTL}/{minor}/abort", "w", encoding="ascii") as control:
            control.write("1")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EROFS):
            raise
        return False
    return True


def disconnect(path: str) -> None:
    """Aborts the connections of all our mounts on `path` and leaves the mounts. Never waits for their server."""
    for entry in mounted(path):
        if _abort_connection(entry.minor):
            continue
        # Held by a descriptor that asks the file system nothing, the mount is busy: it is aborted and not taken away.
        held = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            syscalls.umount(path, syscalls.MNT_FORCE | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        finally:
            os.close(held)


def abort(path: str) -> int:
    """Aborts and detaches all our mounts on `path`; returns how many there were. Never waits for their server."""
    count = 0
    for entry in mounted(path):
        _abort_connection(entry.minor)
    while mounted(path):
        try:
            syscalls.umount(path, syscalls.MNT_FORCE | syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: somebody else detached it between the look and the call
                raise
            break
        count += 1
    return count


def unmount(path: str) -> None:
    """A clean unmount: writes back, fails with EBUSY while anything is open inside."""
    syscalls.umount(path, syscalls.UMOUNT_NOFOLLOW)


def _links(pid: str) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        try:
            yield os.readlink(f"/proc/{pid}/{name}")
        except OSError:
            continue  # gone, a kernel thread, or not ours to see
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return  # the process ended while we looked
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    try:
        with open(f"/proc/{pid}/maps", "rb") as lines:
            for line in lines:
                parts = line.rstrip(b"\n").split(None, 5)
                if len(parts) == 6:
                    yield os.fsdecode(parts[5])
    except OSError:
        return


def holders(path: str) -> list[str]:
    """Processes with an open file, mapping, working or root directory below `path`, as "name (pid)"."""
    path = _resolved(path)
    inside = path + "/"
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if any(link == path or link.startswith(inside) for link in _links(pid)):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                    found.append(f"{comm.read().strip()} ({pid})")
            except OSError:
                continue  # ended in the meantime: no longer a holder
            if len(found) == HOLDERS_NAMED_MAX:
                break
    return found
