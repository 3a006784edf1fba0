"""Names: look up, create, link, rename and remove directory entries, and list directories.

Each operation works on (directory descriptor, single name); no path is ever built. New inodes get their owner after
they exist (the engine runs as root), the mode last, because changing the owner clears set-id bits. What is replicated
is what the file system made of it (set-group-id directories, default ACLs), not what was asked for.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mirror_agent.mirror import files, limits
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.inode_table import InodeTable
from mirror_agent.mirror.inodes import Call, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.wire import Entry

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
_HEAD: Final = abi.HEADER_BYTES
_DEFAULT_ACL: Final = "system.posix_acl_default"
_ACCESS_ACL: Final = "system.posix_acl_access"
_DIRENT_BYTES_MAX: Final = 64 * limits.KIB


def _strings(request: memoryview, start: int) -> list[bytes]:
    """The NUL-terminated strings at the end of a request."""
    return bytes(request[start:]).split(b"\0")


class NameOps:
    """The namespace operations of one mounted root."""

    def __init__(self, table: InodeTable, outlet: Outlet) -> None:
        self.table = table
        self.outlet = outlet
        self.root = table.root
        self.descriptors = table.descriptors

    def lookup(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        parent = self.table.inode(nodeid)
        name = bytes(request[_HEAD:-1])
        directory = self.descriptors.path_fd(parent, call)
        try:
            fd = files.open(name, _PATH_FLAGS, dir_fd=directory)
        except FileNotFoundError:
            return abi.NEGATIVE_ENTRY
        st = files.fstat(fd)
        if st.st_dev != self.root.device:
            files.close(fd)
            raise OSError(errno.EXDEV, f"{name!r} is another file system, which is not replicated")
        inode = self.table.admit(fd, st)
        call.holding.append(inode)
        self.outlet.looked_up(parent, name, inode)
        return abi.entry_out(inode.fid, st)

    def _masked(self, call: Call, parent: Inode, directory: int, mode: int, umask: int) -> int:
        """The umask counts only in a directory without a default ACL (acl(5), OBJECT CREATION)."""
        if parent.default_acl is None:
            try:
                files.getxattr(files.through(directory), _DEFAULT_ACL)
                parent.default_acl = True
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
                parent.default_acl = False
        return mode if parent.default_acl else mode & ~umask

    def _made_before(self, call: Call, directory: int, name: bytes, mode: int, target: bytes = b"") -> bool:
        """True if an engine that died has made this entry for this very request: the kernel asks for a new name only
        where it knows that there is none, and nobody else makes names here."""
        if not call.replayed:
            return False
        try:
            found = files.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        same = stat.S_IFMT(found.st_mode) == (stat.S_IFMT(mode) or stat.S_IFREG)
        return same and (not target or files.readlink(name, dir_fd=directory) == target)

    def _finish(
        self, call: Call, parent: Inode, directory: int, name: bytes, mode: int, *, target: bytes = b"", made: bool
    ) -> bytes:
        """Owner and mode of a new entry, its place in the table, its frame; undone if it cannot be completed.
        `made`: by this engine."""
        fd = -1
        try:
            fd = files.open(name, _PATH_FLAGS, dir_fd=directory)
            st = files.fstat(fd)
            inherits = files.fstat(directory).st_mode & stat.S_ISGID
            gid = -1 if inherits else call.gid
            if st.st_uid != call.uid or (gid != -1 and st.st_gid != gid):
                files.chown(name, call.uid, gid, dir_fd=directory, follow_symlinks=False)
                if mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(st.st_mode):
                    files.chmod(files.through(fd), stat.S_IMODE(st.st_mode))
                st = files.fstat(fd)
            xattrs: tuple[tuple[bytes, bytes], ...] = ()
            if parent.default_acl:
                xattrs = inherited_acls(fd)
        except OSError:
            if fd >= 0:
                files.close(fd)
            if stat.S_ISDIR(mode):
                files.rmdir(name, dir_fd=directory)
            else:
                files.unlink(name, dir_fd=directory)
            raise
        inode = self.table.admit(fd, st)
        call.holding.append(inode)
        entry = Entry(
            st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_size, st.st_mtime_ns, st.st_nlink, name, target, xattrs
        )
        self.outlet.tracker.made(inode)
        if made:
            self.outlet.made(call, parent, inode, entry)
        else:
            self.outlet.replayed(call, parent)
        return abi.entry_out(inode.fid, st)

    def mknod(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        mode, rdev, umask, _ = abi.MKNOD_IN.unpack_from(request, _HEAD)
        name = _strings(request, _HEAD + abi.MKNOD_IN.size)[0]
        parent = self.table.inode(nodeid)
        directory = self.descriptors.path_fd(parent, call)
        mode = self._masked(call, parent, directory, mode, umask)
        with self.outlet.directory_lock(parent):
            made = not self._made_before(call, directory, name, mode)
            if made:
                files.mknod(name, mode, abi.decode_device(rdev), dir_fd=directory)
            return self._finish(call, parent, directory, name, mode, made=made)

    def mkdir(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        mode, umask = abi.MKDIR_IN.unpack_from(request, _HEAD)
        name = _strings(request, _HEAD + abi.MKDIR_IN.size)[0]
        parent = self.table.inode(nodeid)
        directory = self.descriptors.path_fd(parent, call)
        mode = self._masked(call, parent, directory, mode, umask)
        with self.outlet.directory_lock(parent):
            mode |= stat.S_IFDIR
            made = not self._made_before(call, directory, name, mode)
            if made:
                files.mkdir(name, stat.S_IMODE(mode), dir_fd=directory)
            return self._finish(call, parent, directory, name, mode, made=made)

    def symlink(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        name, target = _strings(request, _HEAD)[:2]
        parent = self.table.inode(nodeid)
        directory = self.descriptors.path_fd(parent, call)
        with self.outlet.directory_lock(parent):
            made = not self._made_before(call, directory, name, stat.S_IFLNK, target)
            if made:
                files.symlink(target, name, dir_fd=directory)
            return self._finish(call, parent, directory, name, stat.S_IFLNK, target=target, made=made)

    def link(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        (old,) = abi.LINK_IN.unpack_from(request, _HEAD)
        name = bytes(request[_HEAD + abi.LINK_IN.size : -1])
        parent = self.table.inode(nodeid)
        inode = self.table.inode(old)
        directory = self.descriptors.path_fd(parent, call)
        fd = self.descriptors.path_fd(inode, call)
        with self.outlet.directory_lock(parent):
            if call.replayed and self._number(directory, name) == inode.ino:
                self.outlet.replayed(call, parent)
            else:
                self.outlet.tracker.naming(inode)
                files.link(files.through(fd), name, dst_dir_fd=directory, follow_symlinks=True)
                self.outlet.linked(call, parent, name, inode)
            self.table.told(inode)
        return abi.entry_out(inode.fid, files.fstat(fd))

    def _number(self, directory: int, name: bytes) -> int:
        """The inode number a name stands for, 0 if there is no such name."""
        try:
            return files.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return 0

    def _victim(self, call: Call, directory: int, name: bytes) -> tuple[Inode | None, int]:
        """The inode a name stands for now, with a descriptor that outlives the name; (None, -1) if unknown."""
        ino = self._number(directory, name)
        inode = self.table.by_ino(ino) if ino else None
        return (None, -1) if inode is None else (inode, self.descriptors.path_fd(inode, call))

    @contextmanager
    def _losing(self, victim: Inode | None, fd: int) -> Iterator[None]:
        """Around the removal of a name: if it is the last, the inode is kept for a successor of this process first."""
        last = victim is not None and (victim.is_dir or files.fstat(fd).st_nlink == 1)
        if victim is None or not last:
            yield
            return
        self.table.losing(victim, fd)
        try:
            yield
        except OSError:
            self.table.kept(victim)
            raise

    def _gone(self, victim: Inode | None, fd: int) -> bool:
        """True if the last link went; the inode is pinned then."""
        if victim is None:
            return False
        if files.fstat(fd).st_nlink:
            return False
        self.table.orphaned(victim, fd)
        return True

    def unlink(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        return self._remove(call, nodeid, bytes(request[_HEAD:-1]), is_dir=False)

    def rmdir(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        return self._remove(call, nodeid, bytes(request[_HEAD:-1]), is_dir=True)

    def _remove(self, call: Call, nodeid: int, name: bytes, *, is_dir: bool) -> bytes:
        parent = self.table.inode(nodeid)
        directory = self.descriptors.path_fd(parent, call)
        with self.outlet.directory_lock(parent):
            if call.replayed and not self._number(directory, name):
                # The kernel removes only what it knows to be there: the engine before has done it.
                self.outlet.replayed(call, parent)
                return b""
            victim, fd = self._victim(call, directory, name)
            if victim is not None and not is_dir:
                self.outlet.tracker.naming(victim)
            with self._losing(victim, fd):
                if is_dir:
                    files.rmdir(name, dir_fd=directory)
                else:
                    files.unlink(name, dir_fd=directory)
            last = self._gone(victim, fd)
            self.outlet.removed(call, parent, name, victim, directory=is_dir, last=last)
        return b""

    def rename(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        (target,) = abi.RENAME_IN.unpack_from(request, _HEAD)
        return self._rename(call, nodeid, target, 0, _strings(request, _HEAD + abi.RENAME_IN.size))

    def rename2(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        target, flags, _ = abi.RENAME2_IN.unpack_from(request, _HEAD)
        return self._rename(call, nodeid, target, flags, _strings(request, _HEAD + abi.RENAME2_IN.size))

    def _rename(self, call: Call, nodeid: int, target: int, flags: int, names: list[bytes]) -> bytes:
        if flags & ~(files.RENAME_NOREPLACE | files.RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, f"rename flags {flags} are not supported")
        old_name, new_name = names[0], names[1]
        old, new = self.table.inode(nodeid), self.table.inode(target)
        old_fd = self.descriptors.path_fd(old, call)
        new_fd = self.descriptors.path_fd(new, call)
        exchanged = bool(flags & files.RENAME_EXCHANGE)
        with self.outlet.directory_locks(old, new):
            if self._moved_before(call, old_fd, old_name, new_fd, new_name, exchanged=exchanged):
                for directory in (old, new):
                    self.outlet.replayed(call, directory)
                return b""
            moved, _ = self._victim(call, old_fd, old_name)
            victim, fd = self._victim(call, new_fd, new_name)
            self._note_moves(moved, victim)
            if flags:
                if exchanged and moved is not None and self.table.keep_handles:
                    self.table.slots.intend(call.unique & ~abi.RESENT, moved.ino)
                files.renameat2(old_fd, old_name, new_fd, new_name, flags)
            else:
                with self._losing(None if moved is victim else victim, fd):
                    files.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
            if moved is None or moved is victim:
                return b""  # two links of one inode: rename(2) changes nothing
            last = not exchanged and self._gone(victim, fd)
            self.outlet.renamed(
                call, (old, new), (old_name, new_name), flags, moved, victim, exchanged=exchanged, last=last
            )
        return b""

    def _note_moves(self, *inodes: Inode | None) -> None:
        """Before a rename: what gets another place, or loses one."""
        for inode in inodes:
            if inode is None:
                continue
            if inode.is_dir:
                self.outlet.tracker.moving(inode)
            else:
                self.outlet.tracker.naming(inode)

    def _moved_before(
        self, call: Call, old_fd: int, old_name: bytes, new_fd: int, new_name: bytes, *, exchanged: bool
    ) -> bool:
        """True if an engine that died has carried out this very request. The kernel moves only what it knows to be
        there; an exchange leaves both names, so what was to be exchanged is noted before."""
        if not call.replayed:
            return False
        if not exchanged:
            return not self._number(old_fd, old_name)
        ino = self.table.slots.intended(call.unique & ~abi.RESENT)
        return bool(ino) and self._number(new_fd, new_name) == ino

    def forget(self, call: Call, nodeid: int, request: memoryview) -> None:
        (count,) = abi.FORGET_IN.unpack_from(request, _HEAD)
        self._forget(call, nodeid, count)

    def batch_forget(self, call: Call, nodeid: int, request: memoryview) -> None:
        count, _ = abi.BATCH_FORGET_IN.unpack_from(request, _HEAD)
        at = _HEAD + abi.BATCH_FORGET_IN.size
        for index in range(count):
            one, lookups = abi.FORGET_ONE.unpack_from(request, at + index * abi.FORGET_ONE.size)
            self._forget(call, one, lookups)

    def _forget(self, call: Call, nodeid: int, count: int) -> None:
        inode = self.table.forgotten_by_kernel(nodeid, count)
        if inode is not None:
            self._let_fall(call, inode)

    def let_go(self, call: Call, inode: Inode, count: int) -> None:
        """Takes back holds of this process (`InodeTable.remember`, `hold`)."""
        if self.table.forget(inode, count):
            self._let_fall(call, inode)

    def _let_fall(self, call: Call, inode: Inode) -> None:
        """Nobody refers to the inode any more: tells the replica and closes the descriptors."""
        with self.outlet.times_order:
            if self.outlet.forget_times(inode) and not inode.orphan:
                self.outlet.send_times(inode, self.descriptors.path_fd(inode, call))
        self.outlet.forgotten(inode)
        self.descriptors.close(inode)

    def readdir(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        """Stateless: the offset is the file system's own cookie, so every request may use its own descriptor."""
        _, offset, size, *_ = abi.READ_IN.unpack_from(request, _HEAD)
        directory = self.descriptors.path_fd(self.table.inode(nodeid), call)
        # A FUSE record is at most 5 bytes longer than the kernel's after alignment: 24 against 19 of header.
        return repack_entries(files.directory_page(directory, offset, min(size, _DIRENT_BYTES_MAX)), size)


def inherited_acls(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """ACLs a new entry got from its directory."""
    found = []
    for key in (_ACCESS_ACL, _DEFAULT_ACL):
        try:
            found.append((key.encode(), files.getxattr(files.through(fd), key)))
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
    return tuple(found)


def repack_entries(raw: bytes, size: int) -> bytes:
    """linux_dirent64 records as fuse_dirent records, as many as fit into `size`."""
    parts = []
    position = room = 0
    while position < len(raw):
        ino, cookie, length, kind = abi.LINUX_DIRENT.unpack_from(raw, position)
        name = raw[position + abi.LINUX_DIRENT.size : position + length].split(b"\0", 1)[0]
        record = abi.DIRENT.size + len(name)
        padded = (record + 7) & ~7
        if room + padded > size:
            break
        parts.append(abi.DIRENT.pack(ino, cookie, len(name), kind))
        parts.append(name.ljust(padded - abi.DIRENT.size, b"\0"))
        room += padded
        position += length
    return b"".join(parts)
