"""The replicated directories of a node: opened below whatever is mounted, and recognised.

A node that is to serve must find the directories it had before: an empty mount point in place of a data disk that did
not mount would otherwise be taken for the truth and replicated. A replica may get new ones (a replaced disk): its copy
then counts as unknown and is resynchronised.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from mirror_agent.mirror import files, mounts
from mirror_agent.mirror.checkpoints import read_clock
from mirror_agent.mirror.config import STRICT, MirrorConfig
from mirror_agent.mirror.inodes import Root
from mirror_agent.mirror.resync_choice import Held
from mirror_agent.mirror.state import StateStore
from mirror_agent.mirror.status import MirrorError

_DIRECTORY: Final = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
# Every change of data, attributes or names sets ctime, and a change of them on disk never goes without it, but for
# data overwritten in place: ext4, XFS, btrfs; tmpfs does not survive at all. (statfs(2), f_type)
_CHANGE_TIMES_PROVE: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})


def directory_identity(fd: int) -> str:
    """Says whether an open directory is the same as another time: file system and file handle.

    The handle holds the inode's generation: a file system gives the number of a removed directory to the next one.
    Without handles (overlayfs) only the inode number is compared.
    """
    try:
        own = files.handle_of(fd).hex()
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        own = str(files.fstat(fd).st_ino)
    return f"{files.fstatvfs(fd).f_fsid:x}-{own}"


def open_roots(config: MirrorConfig, state: StateStore, *, serving: bool) -> list[Root]:
    """Raises `MirrorError` when a directory is missing or another one; dead mounts of ours are detached first."""
    roots: list[Root] = []
    known = state.generation.roots
    identities: dict[str, str] = {}
    try:
        for index, entry in enumerate(config.paths):
            mounts.abort(entry.path)
            if entry.identity not in known or not serving:
                os.makedirs(entry.copy_directory, exist_ok=True)
            fd = files.open(
                entry.copy_directory, files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
            )
            roots.append(Root(index, entry.path, entry.mode == STRICT, fd, files.fstat(fd).st_dev))
            identities[entry.identity] = found = directory_identity(fd)
            if serving and known.get(entry.identity, found) != found:
                raise MirrorError(
                    f"{entry.path} is not the directory this node replicated before (is its data disk mounted?); "
                    "mount it, or let this node become a replica and be resynchronised"
                )
            files.purge(fd)
        state.record_roots(identities)
    except FileNotFoundError as error:
        close_roots(roots)
        raise MirrorError(f"{error.filename} does not exist; is its data disk mounted?") from error
    except (OSError, MirrorError):
        close_roots(roots)
        raise
    return roots


def change_times_prove(fd: int) -> bool:
    """Whether change times of the file system of a descriptor can be relied on."""
    return files.file_system_of(fd) in _CHANGE_TIMES_PROVE


def prove_checkpoints(state: StateStore, roots: list[Root]) -> tuple[Held, ...]:
    """What this node can prove about the checkpoints it holds."""
    good = all(change_times_prove(root.fd) for root in roots)
    now = read_clock()
    torn = state.torn(now.boot)
    return state.checkpoints.prove(state.generation.roots, now, file_system_good=good, torn=torn)


def close_roots(roots: list[Root]) -> None:
    for root in roots:
        try:
            files.close(root.fd)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENOSPC):  # its file system is in trouble, which is known by now
                raise
