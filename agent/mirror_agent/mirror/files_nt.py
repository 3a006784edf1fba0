"""NT's own calls for files, each as one typed function that raises OSError with the errno a Unix system would give.

Problem: Win32 opens files by path, forbids deleting what is open, and hides what NTFS can: opening relative to an open
directory, opening by file id, names that vanish at once while the file lives on for those who have it open.
Guarantee: every handle made here shares reading, writing and deleting; links (reparse points) are opened themselves and
never followed; an unknown status is EIO, never success.
Limits: NTFS is what is meant. Where a call of newer systems is missing (`Unsupported`), the caller has an older way.

Sources: Windows Driver Kit, ntifs.h (structures, numbers of information classes, status codes).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import Any, Final

if sys.platform != "win32":
    raise ImportError("mirror_agent.mirror.files_nt is for Windows")

# Access rights. 1, 2, 4, 0x20: read, write, append, execute of a file; list, add file, add directory, traverse of a
# directory.
READ: Final = 0x1
WRITE: Final = 0x2
APPEND: Final = 0x4
TRAVERSE: Final = 0x20
READ_ATTRIBUTES: Final = 0x80
WRITE_ATTRIBUTES: Final = 0x100
DELETE: Final = 0x10000
SYNCHRONIZE: Final = 0x100000

_SHARE_ALL: Final = 7
OPEN: Final = 1
CREATE: Final = 2
OPEN_OR_CREATE: Final = 3

DIRECTORY_FILE: Final = 0x1
SYNCHRONOUS: Final = 0x20
NON_DIRECTORY_FILE: Final = 0x40
OPEN_BY_FILE_ID: Final = 0x2000
OPEN_FOR_BACKUP_INTENT: Final = 0x4000
_OPEN_REPARSE_POINT: Final = 0x200000
_OBJ_CASE_INSENSITIVE: Final = 0x40

# FILE_INFORMATION_CLASS
_BASIC, _RENAME, _LINK, _DISPOSITION, _ALL, _ALLOCATION, _END_OF_FILE = 4, 10, 11, 13, 18, 19, 20
_DISPOSITION_EX, _RENAME_EX = 64, 65
_ID_FULL_DIRECTORY: Final = 38
# FSINFOCLASS
_VOLUME, _ATTRIBUTES, _FULL_SIZE = 1, 5, 7
_POSIX_DELETE: Final = 0x1 | 0x2 | 0x10  # delete, at once, also if read-only
_POSIX_RENAME: Final = 0x2 | 0x40  # POSIX semantics, also over what is read-only

# FILE_ID_FULL_DIR_INFORMATION: next, attributes, length of the name, file id; the name follows.
_ENTRY: Final = struct.Struct("<I52xII8xQ")
_SET_SPARSE, _ZERO_DATA, _ALLOCATED_RANGES = 0x900C4, 0x980C8, 0x940CF

_SUCCESS_MAX: Final = 0x7FFF_FFFF
_BUFFER_OVERFLOW: Final = 0x8000_0005
_NO_MORE_FILES: Final = 0x8000_0006
_NO_SUCH_FILE: Final = 0xC000_000F
_END_OF_DATA: Final = 0xC000_0011
INVALID_PARAMETER: Final = 0xC000_000D
ACCESS_DENIED: Final = 0xC000_0022
_UNSUPPORTED: Final = frozenset({0xC0000002, 0xC0000003, 0xC0000010, 0xC00000BB, INVALID_PARAMETER})
_ERRNO: Final = {
    0xC0000001: errno.EIO,
    0xC0000002: errno.EOPNOTSUPP,
    0xC0000008: errno.EBADF,
    0xC000000D: errno.EINVAL,
    0xC000000E: errno.ENXIO,
    0xC000000F: errno.ENOENT,
    0xC0000010: errno.EOPNOTSUPP,
    0xC0000017: errno.ENOMEM,
    0xC0000022: errno.EACCES,
    0xC0000024: errno.ENOTDIR,
    0xC0000033: errno.EINVAL,
    0xC0000034: errno.ENOENT,
    0xC0000035: errno.EEXIST,
    0xC000003A: errno.ENOENT,
    0xC000003B: errno.EINVAL,
    0xC0000043: errno.EBUSY,
    0xC0000044: errno.EDQUOT,
    0xC0000056: errno.ENOENT,
    0xC000007F: errno.ENOSPC,
    0xC000009A: errno.ENOMEM,
    0xC00000A2: errno.EROFS,
    0xC00000BA: errno.EISDIR,
    0xC00000BB: errno.EOPNOTSUPP,
    0xC00000D4: errno.EXDEV,
    0xC0000101: errno.ENOTEMPTY,
    0xC0000103: errno.ENOTDIR,
    0xC000011F: errno.EMFILE,
    0xC0000121: errno.EACCES,
    0xC0000123: errno.ENOENT,
    0xC000014F: errno.EOPNOTSUPP,
    0xC0000188: errno.ENOSPC,
    0xC0000243: errno.EBUSY,
    0xC0000265: errno.EMLINK,
    0xC0000275: errno.EINVAL,
    0xC0000904: errno.EFBIG,
}


class _UnicodeString(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("maximum", ctypes.c_ushort), ("buffer", ctypes.c_void_p))


class _ObjectAttributes(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_ulong),
        ("root", ctypes.c_void_p),
        ("name", ctypes.POINTER(_UnicodeString)),
        ("attributes", ctypes.c_ulong),
        ("security", ctypes.c_void_p),
        ("quality", ctypes.c_void_p),
    )


class _StatusBlock(ctypes.Structure):
    _fields_ = (("status", ctypes.c_void_p), ("information", ctypes.c_void_p))


class Unsupported(OSError):
    """This system or file system does not have the call (EOPNOTSUPP)."""


_nt: Final = ctypes.WinDLL("ntdll")
_P, _U = ctypes.c_void_p, ctypes.c_ulong
_nt.NtCreateFile.argtypes = [_P, _U, _P, _P, _P, _U, _U, _U, _U, _P, _U]
_nt.NtReadFile.argtypes = [_P, _P, _P, _P, _P, _P, _U, _P, _P]
_nt.NtWriteFile.argtypes = [_P, _P, _P, _P, _P, _P, _U, _P, _P]
_nt.NtQueryInformationFile.argtypes = [_P, _P, _P, _U, _U]
_nt.NtSetInformationFile.argtypes = [_P, _P, _P, _U, _U]
_nt.NtQueryVolumeInformationFile.argtypes = [_P, _P, _P, _U, _U]
_nt.NtQueryDirectoryFile.argtypes = [_P, _P, _P, _P, _P, _P, _U, _U, ctypes.c_ubyte, _P, ctypes.c_ubyte]
_nt.NtFlushBuffersFile.argtypes = [_P, _P]
_nt.NtFsControlFile.argtypes = [_P, _P, _P, _P, _P, _U, _P, _U, _P, _U]
_nt.NtClose.argtypes = [_P]
_nt.NtDuplicateObject.argtypes = [_P, _P, _P, _P, _U, _U, _U]
_nt.RtlNtStatusToDosError.argtypes = [_U]
_CURRENT_PROCESS: Final = ctypes.c_void_p(-1)
_SAME_ACCESS: Final = 2


def failure(status: int, what: str, name: object = None) -> OSError:
    status &= 0xFFFF_FFFF
    text = f"{what}: {ctypes.FormatError(_nt.RtlNtStatusToDosError(status)).strip() or 'no text'} ({status:#010x})"
    number = _ERRNO.get(status, errno.EIO)
    return OSError(number, text, name) if name is not None else OSError(number, text)


def _check(status: int, what: str, name: object = None) -> None:
    if status & 0xFFFF_FFFF > _SUCCESS_MAX:
        raise failure(status, what, name)


def _text(name: bytes) -> tuple[_UnicodeString, Any]:
    """The second must live as long as the first is used. `name` is UTF-16, or a file id."""
    buffer = ctypes.create_string_buffer(name, max(len(name), 2))
    return _UnicodeString(len(name), len(name), ctypes.addressof(buffer)), buffer


def create(root: int, name: bytes, access: int, disposition: int, options: int, shown: object = None) -> int:
    """A handle. `name`: UTF-16 relative to the open directory `root` (b"": it itself), or from NT's own root if `root`
    is 0; with OPEN_BY_FILE_ID eight bytes."""
    text, _buffer = _text(name)
    attributes = _ObjectAttributes(
        ctypes.sizeof(_ObjectAttributes), root or None, ctypes.pointer(text), _OBJ_CASE_INSENSITIVE, None, None
    )
    handle, block = ctypes.c_void_p(), _StatusBlock()
    status = _nt.NtCreateFile(
        ctypes.byref(handle), access | SYNCHRONIZE, ctypes.byref(attributes), ctypes.byref(block), None, 0x80,
        _SHARE_ALL, disposition, options | SYNCHRONOUS | _OPEN_REPARSE_POINT | OPEN_FOR_BACKUP_INTENT, None, 0,
    )  # fmt: skip
    _check(status, "NtCreateFile", shown)
    assert handle.value is not None
    return handle.value


def close(handle: int) -> None:
    _check(_nt.NtClose(handle), "NtClose")


def duplicate(handle: int) -> int:
    copy = ctypes.c_void_p()
    _check(
        _nt.NtDuplicateObject(_CURRENT_PROCESS, handle, _CURRENT_PROCESS, ctypes.byref(copy), 0, 0, _SAME_ACCESS),
        "NtDuplicateObject",
    )
    assert copy.value is not None
    return copy.value


def read(handle: int, size: int, offset: int) -> bytes:
    buffer, block, at = ctypes.create_string_buffer(max(size, 1)), _StatusBlock(), ctypes.c_int64(offset)
    status = _nt.NtReadFile(
        handle, None, None, None, ctypes.byref(block), ctypes.addressof(buffer), size, ctypes.byref(at), None
    )
    if status & 0xFFFF_FFFF == _END_OF_DATA:
        return b""
    _check(status, "NtReadFile")
    return buffer.raw[: block.information or 0]


def write(handle: int, data: bytes, offset: int) -> int:
    """Offset -1: at the end of the file."""
    block, at = _StatusBlock(), ctypes.c_int64(offset)
    if not data:
        return 0  # NTFS would set the times
    status = _nt.NtWriteFile(
        handle, None, None, None, ctypes.byref(block), ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data),
        ctypes.byref(at), None,
    )  # fmt: skip
    _check(status, "NtWriteFile")
    return block.information or 0


def flush(handle: int) -> None:
    block = _StatusBlock()
    _check(_nt.NtFlushBuffersFile(handle, ctypes.byref(block)), "NtFlushBuffersFile")


def _set(handle: int, kind: int, data: bytes, what: str) -> None:
    block = _StatusBlock()
    buffer = ctypes.create_string_buffer(data, len(data))
    status = _nt.NtSetInformationFile(handle, ctypes.byref(block), ctypes.addressof(buffer), len(data), kind)
    _check(status, what)


def _set_newer(handle: int, kind: int, data: bytes, what: str) -> None:
    """As `_set`, for a class that older systems and other file systems than NTFS do not have."""
    block = _StatusBlock()
    buffer = ctypes.create_string_buffer(data, len(data))
    status = _nt.NtSetInformationFile(handle, ctypes.byref(block), ctypes.addressof(buffer), len(data), kind)
    if status & 0xFFFF_FFFF in _UNSUPPORTED:
        raise Unsupported(errno.EOPNOTSUPP, f"{what}: this system does not have it")
    _check(status, what)


def _move(flags: int, directory: int, name: bytes) -> bytes:
    """FILE_RENAME_INFORMATION, FILE_LINK_INFORMATION: flags (or ReplaceIfExists), directory, name."""
    return struct.pack("<I4xQI", flags, directory, len(name)) + name + b"\0\0"


def rename(handle: int, directory: int, name: bytes, *, replace: bool) -> None:
    """Needs DELETE. What is replaced must not be open."""
    _set(handle, _RENAME, _move(int(replace), directory, name), "rename")


def rename_posix(handle: int, directory: int, name: bytes, *, replace: bool) -> None:
    """What is replaced may be open and lives on. Raises `Unsupported`."""
    _set_newer(handle, _RENAME_EX, _move(_POSIX_RENAME | int(replace), directory, name), "rename")


def link(handle: int, directory: int, name: bytes) -> None:
    _set(handle, _LINK, _move(0, directory, name), "link")


def delete(handle: int) -> None:
    """Needs DELETE. The name goes when the last handle is closed."""
    _set(handle, _DISPOSITION, b"\1", "delete")


def delete_posix(handle: int) -> None:
    """The name goes when this handle is closed; the file lives on for those who have it open. Raises `Unsupported`."""
    _set_newer(handle, _DISPOSITION_EX, struct.pack("<I", _POSIX_DELETE), "delete")


def set_size(handle: int, size: int) -> None:
    _set(handle, _END_OF_FILE, struct.pack("<q", size), "truncate")


def reserve(handle: int, size: int) -> None:
    """Raises `Unsupported`."""
    _set_newer(handle, _ALLOCATION, struct.pack("<q", size), "allocate")


def set_times(handle: int, accessed: int, written: int) -> None:
    """In units of 100 ns since 1601; 0 leaves one as it is."""
    _set(handle, _BASIC, struct.pack("<qqqqI4x", 0, accessed, written, 0, 0), "set times")


def information(handle: int) -> tuple[int, ...]:
    """Times (created, accessed, written, changed), attributes, allocated, size, links, delete pending, directory,
    file id."""
    buffer, block = ctypes.create_string_buffer(1024), _StatusBlock()
    status = _nt.NtQueryInformationFile(handle, ctypes.byref(block), ctypes.addressof(buffer), len(buffer), _ALL)
    if status & 0xFFFF_FFFF != _BUFFER_OVERFLOW:  # only the name at its end did not fit
        _check(status, "NtQueryInformationFile")
    return struct.unpack_from("<qqqqI4xqqIBB2xQ", buffer.raw)


def volume_serial(handle: int) -> int:
    raw = _volume(handle, _VOLUME, 600)
    return int(struct.unpack_from("<I", raw, 8)[0])


def volume_space(handle: int) -> tuple[int, int, int, int]:
    """Units in all, free for the caller, free; bytes of a unit."""
    total, mine, free, sectors, sector = struct.unpack_from("<qqqII", _volume(handle, _FULL_SIZE, 32))
    return total, mine, free, sectors * sector


def file_system(handle: int) -> str:
    raw = _volume(handle, _ATTRIBUTES, 600)
    (length,) = struct.unpack_from("<I", raw, 8)
    return raw[12 : 12 + length].decode("utf-16-le")


def _volume(handle: int, kind: int, size: int) -> bytes:
    buffer, block = ctypes.create_string_buffer(size), _StatusBlock()
    status = _nt.NtQueryVolumeInformationFile(handle, ctypes.byref(block), ctypes.addressof(buffer), size, kind)
    _check(status, "NtQueryVolumeInformationFile")
    return buffer.raw


def entries(handle: int, pattern: bytes = b"") -> list[tuple[bytes, int, int]]:
    """(name in UTF-16, attributes, file id) of all entries that fit the pattern, without "." and "..". A handle may be
    asked only once: it keeps its pattern and its place."""
    found: list[tuple[bytes, int, int]] = []
    buffer, block = ctypes.create_string_buffer(64 * 1024), _StatusBlock()
    text, _kept = _text(pattern)
    while True:
        status = _nt.NtQueryDirectoryFile(
            handle, None, None, None, ctypes.byref(block), ctypes.addressof(buffer), len(buffer), _ID_FULL_DIRECTORY,
            0, ctypes.byref(text) if pattern else None, 0,
        )  # fmt: skip
        if status & 0xFFFF_FFFF in (_NO_MORE_FILES, _NO_SUCH_FILE):
            return found
        _check(status, "NtQueryDirectoryFile")
        at = 0
        while True:
            following, attributes, length, ident = _ENTRY.unpack_from(buffer, at)
            name = ctypes.string_at(ctypes.addressof(buffer) + at + _ENTRY.size, length)
            if name not in (b".\0", b".\0.\0"):
                found.append((name, attributes, ident))
            if not following:
                break
            at += following


def allocated_ranges(handle: int, offset: int, length: int) -> list[tuple[int, int]]:
    """(offset, length) of what is allocated, in order, the first 512. Raises `Unsupported`."""
    raw = _control(handle, _ALLOCATED_RANGES, struct.pack("<qq", offset, length), 16 * 512)
    return [struct.unpack_from("<qq", raw, at) for at in range(0, len(raw), 16)]


def punch(handle: int, offset: int, end: int) -> None:
    """Raises `Unsupported`."""
    _control(handle, _SET_SPARSE, b"", 0)
    _control(handle, _ZERO_DATA, struct.pack("<qq", offset, end), 0)


def _control(handle: int, code: int, data: bytes, answer_bytes: int) -> bytes:
    block = _StatusBlock()
    given = ctypes.create_string_buffer(data, max(len(data), 1))
    answer = ctypes.create_string_buffer(max(answer_bytes, 1))
    status = _nt.NtFsControlFile(
        handle, None, None, None, ctypes.byref(block), code, ctypes.addressof(given), len(data),
        ctypes.addressof(answer), answer_bytes,
    )  # fmt: skip
    if status & 0xFFFF_FFFF in _UNSUPPORTED:
        raise Unsupported(errno.EOPNOTSUPP, f"FSCTL {code:#x}: this file system does not have it")
    if status & 0xFFFF_FFFF != _BUFFER_OVERFLOW:
        _check(status, f"FSCTL {code:#x}")
    return answer.raw[: block.information or 0]


def path_of(handle: int) -> str:
    """Where the file is now, as Win32 writes it."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetFinalPathNameByHandleW.argtypes = [_P, ctypes.c_wchar_p, _U, _U]
    buffer = ctypes.create_unicode_buffer(32 * 1024)
    if not kernel.GetFinalPathNameByHandleW(handle, buffer, len(buffer), 0):
        raise OSError(errno.EIO, f"GetFinalPathNameByHandleW: {ctypes.FormatError(ctypes.get_last_error()).strip()}")
    return os.fspath(buffer.value).removeprefix("\\\\?\\")
