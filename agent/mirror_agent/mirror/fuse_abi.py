"""The kernel's side of /dev/fuse, protocol 7.38, as far as the front speaks it (include/uapi/linux/fuse.h).

Only layouts and numbers; what they mean for a mirror is decided in the `front_*` modules.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from enum import IntEnum
from typing import Final

MAJOR: Final = 7
MINOR: Final = 38
ROOT_NODEID: Final = 1


class Op(IntEnum):
    """Request codes. `LATER` ones are answered ENOSYS once, which tells the kernel never to ask again."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SYNCFS = 50
    TMPFILE = 51


# INIT flags (the low word).
ASYNC_READ: Final = 1 << 0
BIG_WRITES: Final = 1 << 5
DONT_MASK: Final = 1 << 6
ASYNC_DIO: Final = 1 << 15
PARALLEL_DIROPS: Final = 1 << 18
POSIX_ACL: Final = 1 << 20
MAX_PAGES: Final = 1 << 22
CACHE_SYMLINKS: Final = 1 << 23
HANDLE_KILLPRIV_V2: Final = 1 << 28
INIT_EXT: Final = 1 << 30
# The high word (INIT_EXT): the kernel can send again what a server that died had taken (Linux 6.9); such a request has
# this bit in its number.
HAS_RESEND: Final = 1 << 7
RESENT: Final = 1 << 63
NOTIFY_RESEND: Final = 7

FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_ATIME: Final = 1 << 4
FATTR_MTIME: Final = 1 << 5
FATTR_ATIME_NOW: Final = 1 << 7
FATTR_MTIME_NOW: Final = 1 << 8
FATTR_KILL_SUIDGID: Final = 1 << 11

WRITE_KILL_SUIDGID: Final = 1 << 2
FSYNC_FDATASYNC: Final = 1 << 0

IN_HEADER: Final = struct.Struct("<IIQQIIIHH")
OUT_HEADER: Final = struct.Struct("<IiQ")
ATTR: Final = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY_HEAD: Final = struct.Struct("<QQQQII")
ATTR_HEAD: Final = struct.Struct("<QII")
ENTRY_OUT: Final = struct.Struct("<QQQQIIQQQQQQIIIIIIIIII")
ATTR_OUT: Final = struct.Struct("<QIIQQQQQQIIIIIIIIII")
INIT_IN: Final = struct.Struct("<IIII")
INIT_IN_HIGH: Final = struct.Struct("<16xI")
INIT_OUT: Final = struct.Struct("<IIIIHHIIHHI28x")
FORGET_IN: Final = struct.Struct("<Q")
BATCH_FORGET_IN: Final = struct.Struct("<II")
FORGET_ONE: Final = struct.Struct("<QQ")
MKNOD_IN: Final = struct.Struct("<IIII")
MKDIR_IN: Final = struct.Struct("<II")
RENAME_IN: Final = struct.Struct("<Q")
RENAME2_IN: Final = struct.Struct("<QII")
LINK_IN: Final = struct.Struct("<Q")
SETATTR_IN: Final = struct.Struct("<IIQQQQQQIIIIIIII")
READ_IN: Final = struct.Struct("<QQIIQII")
WRITE_IN: Final = struct.Struct("<QQIIQII")
WRITE_OUT: Final = struct.Struct("<II")
FSYNC_IN: Final = struct.Struct("<QII")
SETXATTR_IN: Final = struct.Struct("<II")
GETXATTR_IN: Final = struct.Struct("<II")
GETXATTR_OUT: Final = struct.Struct("<II")
STATFS_OUT: Final = struct.Struct("<QQQQQIIII24x")
FALLOCATE_IN: Final = struct.Struct("<QQQII")
LSEEK_IN: Final = struct.Struct("<QQII")
LSEEK_OUT: Final = struct.Struct("<Q")
INTERRUPT_IN: Final = struct.Struct("<Q")
DIRENT: Final = struct.Struct("<QQII")
LINUX_DIRENT: Final = struct.Struct("<QqHB")

HEADER_BYTES: Final = IN_HEADER.size
# Names and attributes stay cached as long as the kernel likes: nobody but this mount changes the directory. It is
# also a condition of the order on the wire: a name is never looked up again behind the back of its directory's lock.
FOREVER_S: Final = 1 << 30

assert HEADER_BYTES == 40
assert ATTR.size == 88
assert ENTRY_OUT.size == 128
assert ATTR_OUT.size == 104
assert INIT_OUT.size == 64
assert STATFS_OUT.size == 80
assert SETATTR_IN.size == 88
assert WRITE_IN.size == 40

_NS: Final = 1_000_000_000


def encode_device(device: int) -> int:
    """The kernel's 32-bit form of a device number (new_encode_dev)."""
    if not device:
        return 0
    if sys.platform == "win32":
        raise OSError(errno.EOPNOTSUPP, f"Windows has no device {device:#x}")
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def decode_device(encoded: int) -> int:
    if not encoded:
        return 0
    if sys.platform == "win32":
        raise OSError(errno.EOPNOTSUPP, f"Windows has no device {encoded:#x}")
    return os.makedev((encoded & 0xFFF00) >> 8, (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00))


def _attributes(st: os.stat_result) -> tuple[int, ...]:
    atime, atime_ns = divmod(st.st_atime_ns, _NS)
    mtime, mtime_ns = divmod(st.st_mtime_ns, _NS)
    ctime, ctime_ns = divmod(st.st_ctime_ns, _NS)
    mask = 0xFFFFFFFFFFFFFFFF  # times before 1970 travel as two's complement
    return (
        st.st_ino,
        st.st_size,
        st.st_blocks,
        atime & mask,
        mtime & mask,
        ctime & mask,
        atime_ns,
        mtime_ns,
        ctime_ns,
        st.st_mode,
        st.st_nlink,
        st.st_uid,
        st.st_gid,
        encode_device(st.st_rdev) if st.st_rdev else 0,
        st.st_blksize,
        0,
    )


def entry_out(nodeid: int, st: os.stat_result) -> bytes:
    return ENTRY_OUT.pack(nodeid, 0, FOREVER_S, FOREVER_S, 0, 0, *_attributes(st))


def attr_out(st: os.stat_result) -> bytes:
    return ATTR_OUT.pack(FOREVER_S, 0, 0, *_attributes(st))


# A name that does not exist is remembered as well (node id 0).
NEGATIVE_ENTRY: Final = ENTRY_OUT.pack(0, 0, FOREVER_S, 0, 0, 0, *(0,) * 16)
