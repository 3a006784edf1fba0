"""The replica's files: applies one frame after the other, inside its roots only.

A file is reached by its fid: a descriptor that was opened from the root downwards, one single name at a time, without
following links (`wire.name_of` lets nothing else through), so no frame can reach anything outside. An apply that fails
raises `ApplyError`; the session then answers NAK and ends, and every acknowledged frame is still applied.

A fid whose last link went (`orphan`) takes further frames as no-ops: the primary's application may still write to the
unlinked file, but nobody could ever find it here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import files, wire
from mirror_agent.mirror.dirty_log import File
from mirror_agent.mirror.front_attrs import apply_attributes
from mirror_agent.mirror.inode_table import FidMap
from mirror_agent.mirror.inodes import Call, Descriptors, Inode, Root
from mirror_agent.mirror.quarantine import write_all
from mirror_agent.mirror.wire import Entry, Frame

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC


class ApplyError(Exception):
    """A frame that cannot be applied: this node is not a replica of that primary (any more)."""


class Preserving:
    """What a resync wants to see before a live frame destroys something; outside a resync nothing happens."""

    def before_change(self, inode: Inode, fd: int, offset: int, length: int) -> None:
        """Bytes [offset, offset+length) of a file are about to change."""

    def before_remove(self, inode: Inode | None, parent: Inode, name: bytes, *, last: bool) -> bool:
        """A name is about to go (`last`: its inode has no other on the primary); True if it is out of the way now."""
        return False


class ReplicaFiles:
    """The fids of one session. Used by the session's one applying thread. `moving`: see `CheckpointStore`."""

    def __init__(
        self, roots: list[Root], descriptors: Descriptors, moving: Callable[[File], None] = lambda _: None
    ) -> None:
        self._moving = moving
        self.descriptors = descriptors
        self.call: Call = descriptors.new_call()
        self.by_fid = FidMap(roots)
        self.preserving = Preserving()
        # During a resync: which fid stands for an inode of this side, by (root, inode number).
        self.owners: dict[tuple[int, int], int] | None = None
        for root in roots:
            inode = Inode(root, root.fid, files.fstat(root.fd).st_ino, stat.S_IFDIR, files.dup(root.fd))
            self.by_fid[root.fid] = inode

    def close(self) -> None:
        self.descriptors.end_call(self.call)
        self.descriptors.close_all(self.by_fid.values())
        self.by_fid.clear()

    def inode(self, fid: int) -> Inode:
        inode = self.by_fid.get(fid)
        if inode is None:
            raise ApplyError(f"file id {fid} was never announced")
        return inode

    def directory(self, fid: int) -> tuple[Inode, int]:
        inode = self.inode(fid)
        if not inode.is_dir:
            raise ApplyError(f"file id {fid} is no directory")
        return inode, self.descriptors.path_fd(inode, self.call)

    def register(self, fid: int, root: Root, fd: int) -> Inode:
        """Binds a fid to the inode of a fresh O_PATH descriptor."""
        st = files.fstat(fd)
        if st.st_dev != root.device:
            files.close(fd)
            raise ApplyError(f"file id {fid} lies on another file system than {root.path}")
        inode = Inode(root, fid, st.st_ino, stat.S_IFMT(st.st_mode), fd)
        self.by_fid[fid] = inode
        self.descriptors.adopt(inode)
        if self.owners is not None:
            self.owners[(root.index, inode.ino)] = fid
        return inode

    def _disown(self, inode: Inode) -> None:
        if self.owners is not None and self.owners.get((inode.root.index, inode.ino)) == inode.fid:
            del self.owners[(inode.root.index, inode.ino)]

    def open_name(self, fid: int, parent_fd: int, name: bytes, root: Root) -> Inode:
        return self.register(fid, root, files.open(name, _PATH_FLAGS, dir_fd=parent_fd))

    def data_fd(self, inode: Inode) -> int:
        if not inode.is_file:
            raise ApplyError(f"file id {inode.fid} is no regular file")
        return self.descriptors.data_fd(inode, self.call)

    def path_fd(self, inode: Inode) -> int:
        return self.descriptors.path_fd(inode, self.call)

    # -- names -----------------------------------------------------------------------------------------------------

    def bind(self, frame: Frame) -> None:
        parent, directory = self.directory(frame.offset)
        name = wire.name_of(frame.payload)
        known = self.by_fid.get(frame.fid)
        if known is None:
            self.open_name(frame.fid, directory, name, parent.root)
            return
        ino = files.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
        if ino != known.ino:
            raise ApplyError(f"{name!r} is inode {ino}, file id {frame.fid} is inode {known.ino}")

    def unbind(self, frame: Frame) -> None:
        inode = self.by_fid.get(frame.fid)
        if inode is not None and inode.fid >= 16:
            self._disown(inode)
            del self.by_fid[frame.fid]
            self.descriptors.close(inode)

    def make(self, frame: Frame) -> None:
        parent, directory = self.directory(frame.offset)
        entry = wire.parse_entry(frame.payload)
        if frame.fid in self.by_fid:
            raise ApplyError(f"file id {frame.fid} is used twice")
        create_entry(directory, entry)
        inode = self.open_name(frame.fid, directory, entry.name, parent.root)
        set_new_entry(self.path_fd(inode), entry)

    def link(self, frame: Frame) -> None:
        _, directory = self.directory(frame.offset)
        fd = self.path_fd(self.inode(frame.fid))
        files.link(files.through(fd), wire.name_of(frame.payload), dst_dir_fd=directory, follow_symlinks=True)

    def remove(self, frame: Frame) -> None:
        parent, directory = self.directory(frame.offset)
        name = wire.name_of(frame.payload)
        victim = self.by_fid.get(frame.fid)
        last = bool(frame.flags & wire.LAST_LINK)
        if not self.preserving.before_remove(victim, parent, name, last=last):
            if frame.flags & wire.DIRECTORY:
                files.rmdir(name, dir_fd=directory)
            else:
                files.unlink(name, dir_fd=directory)
        if last:
            self._orphaned(victim)

    def _orphaned(self, inode: Inode | None) -> None:
        if inode is not None:
            self._disown(inode)
            inode.orphan = True
            self.descriptors.close(inode)

    def moves(self, root: Root, directory: int, name: bytes) -> None:
        """Before a name gets another place: a directory takes what is below it along, unchanged, and is noted."""
        st = files.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            self._moving((root.index, st.st_ino))

    def rename(self, frame: Frame) -> None:
        move = wire.parse_rename(frame.payload)
        _, old = self.directory(frame.offset)
        parent, new = self.directory(move.new_parent)
        victim = self.by_fid.get(move.victim)
        last = bool(move.victim_flags & wire.LAST_LINK)
        self.moves(parent.root, old, move.name)
        if move.flags & files.RENAME_EXCHANGE:
            self.moves(parent.root, new, move.new_name)
        if move.flags:
            files.renameat2(old, move.name, new, move.new_name, move.flags)
        else:
            if victim is not None:
                self.preserving.before_remove(victim, parent, move.new_name, last=last)
            files.rename(move.name, move.new_name, src_dir_fd=old, dst_dir_fd=new)
        if last:
            self._orphaned(victim)

    # -- data and attributes ---------------------------------------------------------------------------------------

    def write(self, frame: Frame) -> int:
        """Returns the descriptor written to, or -1 for an orphan."""
        inode = self.inode(frame.fid)
        if inode.orphan:
            return -1
        fd = self.data_fd(inode)
        self.preserving.before_change(inode, fd, frame.offset, len(frame.payload))
        write_all(fd, frame.payload, frame.offset)
        return fd

    def setattr(self, frame: Frame) -> None:
        inode = self.inode(frame.fid)
        if inode.orphan:
            return
        change = wire.parse_setattr(frame.payload)
        if change.valid & wire.SET_SIZE:
            fd = self.data_fd(inode)
            size = files.fstat(fd).st_size
            if change.size < size:
                self.preserving.before_change(inode, fd, change.size, size - change.size)
            files.ftruncate(fd, change.size)
        apply_attributes(self.path_fd(inode), change)

    def fallocate(self, frame: Frame) -> None:
        inode = self.inode(frame.fid)
        if inode.orphan:
            return
        length, mode = wire.parse_fallocate(frame.payload)
        fd = self.data_fd(inode)
        if mode:
            # Punching, zeroing, collapsing and inserting change or move everything from the offset on.
            self.preserving.before_change(inode, fd, frame.offset, max(length, files.fstat(fd).st_size - frame.offset))
        files.fallocate(fd, mode, frame.offset, length)

    def setxattr(self, frame: Frame) -> None:
        inode = self.inode(frame.fid)
        if not inode.orphan:
            _, key, value = wire.parse_setxattr(frame.payload)
            files.setxattr(files.through(self.path_fd(inode)), key, value)

    def removexattr(self, frame: Frame) -> None:
        inode = self.inode(frame.fid)
        if not inode.orphan:
            files.removexattr(files.through(self.path_fd(inode)), wire.xattr_name(frame.payload))

    def flushable(self, fid: int) -> int:
        """A descriptor to flush a file or directory with, valid for this frame; -1 if there is nothing to flush."""
        inode = self.inode(fid)
        if inode.orphan or not (inode.is_file or inode.is_dir):
            return -1
        return self.descriptors.data_fd(inode, self.call)


def create_entry(directory: int, entry: Entry) -> None:
    """The bare entry; owner, mode and attributes are completed by `set_new_entry` or `set_entry`."""
    match stat.S_IFMT(entry.mode):
        case stat.S_IFDIR:
            files.mkdir(entry.name, stat.S_IMODE(entry.mode), dir_fd=directory)
        case stat.S_IFLNK:
            files.symlink(entry.target, entry.name, dir_fd=directory)
        case stat.S_IFREG | stat.S_IFIFO | stat.S_IFSOCK | stat.S_IFCHR | stat.S_IFBLK:
            files.mknod(entry.name, entry.mode, entry.rdev, dir_fd=directory)
        case kind:
            raise ApplyError(f"{entry.name!r} has the unknown type {kind:o}")


def set_new_entry(fd: int, entry: Entry) -> None:
    """Completes what `create_entry` just made. It has no extended attributes but those its directory gave it, and the
    primary's directory gave the same."""
    path = files.through(fd)
    st = files.fstat(fd)
    if (st.st_uid, st.st_gid) != (entry.uid, entry.gid):
        files.chown(path, entry.uid, entry.gid)
        st = files.fstat(fd)
    for key, value in entry.xattrs:
        files.setxattr(path, key, value)
    if st.st_mode != entry.mode and not stat.S_ISLNK(entry.mode):
        files.chmod(path, stat.S_IMODE(entry.mode))
    files.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def set_entry(fd: int, entry: Entry) -> None:
    """Makes owner, mode, extended attributes and modification time of an inode those of the primary's."""
    path = files.through(fd)
    st = files.fstat(fd)
    if (st.st_uid, st.st_gid) != (entry.uid, entry.gid):
        files.chown(path, entry.uid, entry.gid)
        st = files.fstat(fd)
    wanted = dict(entry.xattrs)
    if wanted or not stat.S_ISLNK(entry.mode):
        for key in map(os.fsencode, files.listxattr(path)):
            if key not in wanted:
                files.removexattr(path, key)
        for key, value in wanted.items():
            files.setxattr(path, key, value)
    if not stat.S_ISLNK(entry.mode) and stat.S_IMODE(files.fstat(fd).st_mode) != stat.S_IMODE(entry.mode):
        files.chmod(path, stat.S_IMODE(entry.mode))
    if files.fstat(fd).st_mtime_ns != entry.mtime_ns:
        files.utime(path, ns=(st.st_atime_ns, entry.mtime_ns))
