"""Linux calls that Python's `os` does not have, each as one typed function that raises OSError with the errno.

All of them release the interpreter lock while the kernel works (ctypes.CDLL). Nothing here takes a path that could lie
inside a mounted mirror, except the mount calls themselves.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_STATX_BTIME: Final = 0x800

_libc: Final = ctypes.CDLL(None, use_errno=True)

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_SYMLINK_FOLLOW: Final = 0x400

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MNT_FORCE: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

PR_SET_PDEATHSIG: Final = 1
PR_SET_IO_FLUSHER: Final = 57

# struct file_handle { u32 handle_bytes; int handle_type; unsigned char f_handle[] } with MAX_HANDLE_SZ = 128.
_HANDLE_HEAD: Final = struct.Struct("=Ii")
_MAX_HANDLE_SZ: Final = 128


def _raise(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


_libc.name_to_handle_at.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
_libc.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.getdents64.restype = ctypes.c_ssize_t
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]


def handle_of(fd: int) -> bytes:
    """The file handle of an open (also O_PATH) descriptor. OSError EOPNOTSUPP where the file system has none."""
    buffer = ctypes.create_string_buffer(_HANDLE_HEAD.size + _MAX_HANDLE_SZ)
    _HANDLE_HEAD.pack_into(buffer, 0, _MAX_HANDLE_SZ, 0)
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount_id), AT_EMPTY_PATH) != 0:
        raise _raise("name_to_handle_at")
    size, _ = _HANDLE_HEAD.unpack_from(buffer, 0)
    return buffer.raw[: _HANDLE_HEAD.size + size]


def open_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    """Opens a handle of `handle_of` on the file system of `mount_fd`. OSError ESTALE when the inode is gone."""
    fd: int = _libc.open_by_handle_at(mount_fd, handle, flags | os.O_CLOEXEC)
    if fd < 0:
        raise _raise("open_by_handle_at")
    return fd


def renameat2(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> None:
    if _libc.renameat2(old_dir, old, new_dir, new, flags) != 0:
        raise _raise("renameat2")


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, offset, length) != 0:
        raise _raise("fallocate")


def syncfs(fd: int) -> None:
    if _libc.syncfs(fd) != 0:
        raise _raise("syncfs")


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()) != 0:
        raise _raise(f"mount {kind} on {target}")


def umount(target: str, flags: int) -> None:
    if _libc.umount2(os.fsencode(target), flags) != 0:
        raise _raise(f"umount {target}")


def file_system_of(fd: int) -> int:
    """The type number of the file system of a descriptor (statfs.f_type, the first word of the structure)."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, buffer) != 0:
        raise _raise("fstatfs")
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)


def birth_ns(fd: int) -> int | None:
    """When the inode of a descriptor was made, by its file system's clock; None where that is not kept.

    struct statx: stx_mask at byte 0, stx_btime (s64 seconds, u32 nanoseconds) at byte 80.
    """
    buffer = ctypes.create_string_buffer(256)
    if _libc.statx(fd, b"", AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        raise _raise("statx")
    (mask,) = struct.unpack_from("=I", buffer, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if mask & _STATX_BTIME else None


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _raise(f"prctl {option}")


def getdents64(fd: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
    """Fills `buffer` with linux_dirent64 records from the descriptor's position; 0 at the end of the directory."""
    count: int = _libc.getdents64(fd, buffer, size)
    if count < 0:
        raise _raise("getdents64")
    return count
