"""Attributes: stat, chmod, chown, utimens, truncate, extended attributes, links' targets and free space.

Times asked for as "now" are resolved here once, so both nodes store the same. Changes of owner replicate the resulting
mode as well, because the file system clears set-id bits with them.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Final

from mirror_agent.mirror import files, wire
from mirror_agent.mirror import fuse_abi as abi
from mirror_agent.mirror.front_data import DataOps
from mirror_agent.mirror.inode_table import InodeTable
from mirror_agent.mirror.inodes import Call, Inode
from mirror_agent.mirror.outlet import Outlet
from mirror_agent.mirror.wire import Op, SetAttr

_HEAD: Final = abi.HEADER_BYTES
_NS: Final = 1_000_000_000
_KNOWN: Final = abi.FATTR_MODE | abi.FATTR_UID | abi.FATTR_GID | abi.FATTR_SIZE | abi.FATTR_ATIME | abi.FATTR_MTIME
_STATFS_UNIT: Final = 4096


def signed64(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


class AttributeOps:
    """The attribute operations of one mounted root."""

    def __init__(self, table: InodeTable, outlet: Outlet, data: DataOps) -> None:
        self.table = table
        self.outlet = outlet
        self.data = data
        self.root = table.root
        self.descriptors = table.descriptors

    def getattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        return abi.attr_out(files.fstat(self.descriptors.path_fd(self.table.inode(nodeid), call)))

    def setattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = abi.SETATTR_IN.unpack_from(
            request, _HEAD
        )
        inode = self.table.inode(nodeid)
        fd = self.descriptors.path_fd(inode, call)
        change = SetAttr(
            valid & _KNOWN,
            stat.S_IMODE(mode),
            uid,
            gid,
            size,
            time.time_ns() if valid & abi.FATTR_ATIME_NOW else signed64(atime) * _NS + atime_ns,
            time.time_ns() if valid & abi.FATTR_MTIME_NOW else signed64(mtime) * _NS + mtime_ns,
        )
        with self.outlet.inode_lock(inode):
            if valid & abi.FATTR_SIZE:
                data_fd = self.descriptors.data_fd(inode, call)
                self.outlet.tracker.truncating(inode, files.fstat(data_fd).st_size, size)
                files.ftruncate(data_fd, size)
                if valid & abi.FATTR_KILL_SUIDGID:
                    self.data.kill_set_id(call, inode, inode.rw)
                if not valid & abi.FATTR_MTIME:
                    self.outlet.times[inode.fid] = inode
            st = apply_attributes(fd, change)
            if valid & (abi.FATTR_UID | abi.FATTR_GID) and not stat.S_ISLNK(st.st_mode):
                change = change._replace(valid=change.valid | wire.SET_MODE, mode=stat.S_IMODE(st.st_mode))
            if change.valid:
                self.outlet.emit(call, inode, Op.SETATTR, data=wire.setattr_payload(change))
        return abi.attr_out(st)

    def readlink(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        fd = self.descriptors.path_fd(self.table.inode(nodeid), call)
        return files.readlink(b"", dir_fd=fd)

    def _xattr_path(self, call: Call, inode: Inode) -> str:
        return files.through(self.descriptors.path_fd(inode, call))

    def setxattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        size, flags = abi.SETXATTR_IN.unpack_from(request, _HEAD)
        start = _HEAD + abi.SETXATTR_IN.size
        key = bytes(request[start:]).split(b"\0", 1)[0]
        value = bytes(request[start + len(key) + 1 : start + len(key) + 1 + size])
        inode = self.table.inode(nodeid)
        path = self._xattr_path(call, inode)
        with self.outlet.inode_lock(inode):
            # Sent again: the engine before may have created it already.
            if call.replayed and self._has(path, key, value):
                flags &= ~files.XATTR_CREATE
            files.setxattr(path, key, value, flags)
            if key == b"system.posix_acl_default":
                inode.default_acl = None
            self.outlet.emit(call, inode, Op.SETXATTR, data=wire.setxattr_payload(0, key, value))
        return b""

    def _has(self, path: str, key: bytes, value: bytes) -> bool:
        try:
            return files.getxattr(path, key) == value
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return False

    def removexattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        key = bytes(request[_HEAD:-1])
        inode = self.table.inode(nodeid)
        path = self._xattr_path(call, inode)
        with self.outlet.inode_lock(inode):
            try:
                files.removexattr(path, key)
            except OSError as error:
                if error.errno != errno.ENODATA or not call.replayed:
                    raise  # sent again, it may have been removed by the engine before
            if key == b"system.posix_acl_default":
                inode.default_acl = None
            self.outlet.emit(call, inode, Op.REMOVEXATTR, data=key)
        return b""

    def getxattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        key = bytes(request[_HEAD + abi.GETXATTR_IN.size : -1])
        path = self._xattr_path(call, self.table.inode(nodeid))
        return self._sized(request, lambda: files.getxattr(path, key))

    def listxattr(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        path = self._xattr_path(call, self.table.inode(nodeid))
        return self._sized(request, lambda: b"".join(os.fsencode(key) + b"\0" for key in files.listxattr(path)))

    def _sized(self, request: memoryview, read: Callable[[], bytes]) -> bytes:
        """Answers a question for the size (0) or for the value, ERANGE if that does not fit."""
        size, _ = abi.GETXATTR_IN.unpack_from(request, _HEAD)
        value = read()
        if size == 0:
            return abi.GETXATTR_OUT.pack(len(value), 0)
        if len(value) > size:
            raise OSError(errno.ERANGE, f"{len(value)} bytes do not fit into {size}")
        return value

    def statfs(self, call: Call, nodeid: int, request: memoryview) -> bytes:
        """The smaller free space of both nodes, so that the application meets a full disk here first."""
        st = files.fstatvfs(self.root.fd)
        free, available, nodes = st.f_bfree, st.f_bavail, st.f_ffree
        stream = self.outlet.stream
        if stream is not None and len(stream.spaces) > self.root.index:
            space = stream.spaces[self.root.index]
            free = min(free, space.free_blocks * _STATFS_UNIT // st.f_frsize)
            available = min(available, space.available_blocks * _STATFS_UNIT // st.f_frsize)
            nodes = min(nodes, space.free_files)
        return abi.STATFS_OUT.pack(
            st.f_blocks, free, available, st.f_files, nodes, st.f_bsize, st.f_namemax, st.f_frsize, 0
        )


def apply_attributes(fd: int, change: SetAttr) -> os.stat_result:
    """Owner, mode and times of the inode behind an O_PATH descriptor (size is the caller's); its new state."""
    path = files.through(fd)
    valid = change.valid
    if valid & (wire.SET_UID | wire.SET_GID):
        files.chown(path, change.uid if valid & wire.SET_UID else -1, change.gid if valid & wire.SET_GID else -1)
    if valid & wire.SET_MODE:
        files.chmod(path, change.mode)
    if valid & (wire.SET_ATIME | wire.SET_MTIME):
        st = files.fstat(fd)
        atime_ns = change.atime_ns if valid & wire.SET_ATIME else st.st_atime_ns
        mtime_ns = change.mtime_ns if valid & wire.SET_MTIME else st.st_mtime_ns
        files.utime(path, ns=(atime_ns, mtime_ns))
    return files.fstat(fd)
