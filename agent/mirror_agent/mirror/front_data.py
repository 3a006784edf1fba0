"""Data: read, write, allocate, seek and flush regular files (and flush directories).

There are no open files here: OPEN is answered ENOSYS, so the kernel keeps them to itself and addresses inodes; an
unlinked open file lives on because the kernel still remembers its inode. Truncation on open arrives as SETATTR.

A short local write is replicated and reported as short. A write with O_DSYNC/O_SYNC and every fsync are sent first and
flushed here while the replica flushes too.
"""

from __future__ import annotations

import errno
import stat
from typing import Final

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.inode_table import InodeTable
from mirror_agent.mirror.inodes import Call, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.wire import Op, SetAttr

_HEAD: Final = abi.HEADER_BYTES
_WRITE_DATA: Final = _HEAD + abi.WRITE_IN.size
# A large write that is waited for travels in up to four frames, none smaller than this: the replica takes in one while
# the next is written.
_PARTS_MAX: Final = 4
_PART_BYTES_MIN: Final = 128 * limits.KIB


def without_set_id(mode: int) -> int:
    """Mode after a write or truncate by somebody without CAP_FSETID (the kernel's should_remove_suid)."""
    mode &= ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        mode &= ~stat.S_ISGID
    return mode


class DataOps:
    """The data operations of one mounted root."""

    def __init__(self, table: InodeTable, outlet: Outlet) -> None:
        self.table = table
        self.outlet = outlet
        self.descriptors = table.descriptors

    def read(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        _, offset, size, *_ = abi.READ_IN.unpack_from(request, _HEAD)
        fd = self.descriptors.data_fd(self.table.inode(nodeid), call)
        return files.pread(fd, min(size, limits.MAX_WRITE_BYTES), offset)

    def write(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        _, offset, size, how, _, flags, _ = abi.WRITE_IN.unpack_from(request, _HEAD)
        inode = self.table.inode(nodeid)
        fd = self.descriptors.data_fd(inode, call)
        data = request[_WRITE_DATA : _WRITE_DATA + size]
        outlet = self.outlet
        sync = bool(flags & files.O_DSYNC)
        with outlet.inode_lock(inode):
            outlet.tracker.overwriting(inode, offset, size)
            step = max(_PART_BYTES_MIN, -(-size // _PARTS_MAX)) if inode.root.strict else size
            done = self._write_part(fd, data[:step], offset, 0)
            if how & abi.WRITE_KILL_SUIDGID:
                self.kill_set_id(call, inode, fd)
            part, start = data[:done], offset
            while done < size and len(part) == step:
                outlet.emit(call, inode, Op.WRITE, offset=start, data=bytes(part), last=False)
                start = offset + done
                wrote = self._write_part(fd, data[done : done + step], start, done)
                part = data[done : done + wrote]
                done += wrote
            outlet.emit(call, inode, Op.WRITE, offset=start, data=bytes(part), sync=sync)
            outlet.times[inode.fid] = inode
        if sync:
            call.before_flushing()
            if (stream := outlet.stream) is not None:
                stream.flush()
            if flags & files.O_SYNC == files.O_SYNC:
                files.fsync(fd)
            else:
                files.fdatasync(fd)
        return abi.WRITE_OUT.pack(done, 0)

    def _write_part(self, fd: int, part: memoryview, offset: int, before: int) -> int:
        """Bytes written. What fails after a part went well (`before` bytes) is a short write, as for one call."""
        try:
            return files.pwrite(fd, part, offset)
        except OSError:
            if not before:
                raise
            return 0

    def kill_set_id(self, call: Call, inode: Inode, fd: int) -> None:
        """Removes set-id bits as the file system would for an unprivileged writer; the order lock is held."""
        before = stat.S_IMODE(files.fstat(fd).st_mode)
        after = without_set_id(before)
        if after != before:
            files.fchmod(fd, after)
            change = SetAttr(wire.SET_MODE, after, 0, 0, 0, 0, 0)
            self.outlet.emit(call, inode, Op.SETATTR, data=wire.setattr_payload(change))

    def fallocate(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        _, offset, length, mode, _ = abi.FALLOCATE_IN.unpack_from(request, _HEAD)
        inode = self.table.inode(nodeid)
        fd = self.descriptors.data_fd(inode, call)
        with self.outlet.inode_lock(inode):
            before = files.fstat(fd).st_size
            self.outlet.tracker.overwriting(inode, offset, length)
            try:
                files.fallocate(fd, mode, offset, length)
            except OSError:
                # ENOSPC in the middle leaves what was reached; the size is the part of it that can be seen.
                after = files.fstat(fd).st_size
                if after != before:
                    change = SetAttr(wire.SET_SIZE, 0, 0, 0, after, 0, 0)
                    self.outlet.emit(call, inode, Op.SETATTR, data=wire.setattr_payload(change))
                raise
            self.outlet.emit(call, inode, Op.FALLOCATE, offset=offset, data=wire.fallocate_payload(length, mode))
            self.outlet.times[inode.fid] = inode
        return b""

    def lseek(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        _, offset, whence, _ = abi.LSEEK_IN.unpack_from(request, _HEAD)
        if whence not in (files.SEEK_DATA, files.SEEK_HOLE):
            raise OSError(errno.EINVAL, f"lseek whence {whence}")
        inode = self.table.inode(nodeid)
        fd = self.descriptors.data_fd(inode, call)
        # The position of the shared descriptor is used by nobody else: reads and writes are positional.
        return abi.LSEEK_OUT.pack(files.lseek(fd, offset, whence))

    def fsync(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        _, how, _ = abi.FSYNC_IN.unpack_from(request, _HEAD)
        inode = self.table.inode(nodeid)
        fd = self._flushable(inode, call)
        data_only = bool(how & abi.FSYNC_FDATASYNC)
        with self.outlet.inode_lock(inode):
            self.outlet.emit(call, inode, Op.FSYNC, sync=True, flags=wire.DATA_ONLY if data_only else 0)
        if (stream := self.outlet.stream) is not None:
            stream.flush()
        call.before_flushing()
        if data_only:
            files.fdatasync(fd)
        else:
            files.fsync(fd)
        return b""

    def _flushable(self, inode: Inode, call: Call) -> int:
        if not inode.is_file and not inode.is_dir:
            raise OSError(errno.EINVAL, "only files and directories are flushed")
        return self.descriptors.data_fd(inode, call)

    def syncfs(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        self.outlet.barrier(call, self.table.root_inode)
        files.syncfs(self.table.root.fd)
        return b""
