"""The functions of `files` on Windows: what `os` does on Unix by descriptors, done with NT handles.

A descriptor is a handle plus `_BASE`, so it is never taken for one of the C library's (those of Python's own open files
are taken as well, for reading, writing and flushing). Names are UTF-8 (lone surrogates as they come) outside, UTF-16
inside.

Rules where Windows is another world, each of them the same on both nodes of a cluster:
- Owner, group and mode are those of the mount (`MODE_OF_FILES`, `MODE_OF_DIRECTORIES`): not kept, not replicated.
  Asking for others is refused with EOPNOTSUPP.
- Links (symbolic links, junctions, every reparse point), devices and extended attributes: EOPNOTSUPP. A link that is
  found counts as a symbolic link nobody can read, so it is never followed, and whoever would have to copy it fails.
- A name is found only as it is spelled. NTFS keeps the spelling and has no two names that differ in case only: to make
  or to rename to another spelling of what is there is EEXIST.
- A name that is removed is gone at once; the file lives on for who has it open, as on Unix. The newer calls of NT for
  this are used where they are; where not, `files_gone` does it.
- Times are multiples of 100 ns. Change times prove nothing (`file_system_of`), so a resync compares everything.
"""

from __future__ import annotations

import ctypes
import errno
import msvcrt
import os
import stat as modes
import struct
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, cast
from weakref import WeakMethod

from mirror_agent.mirror import files_gone, files_nt
from mirror_agent.mirror.files_names import folded, from_utf16, to_utf16

if sys.platform != "win32":
    raise ImportError("mirror_agent.mirror.files_windows is for Windows")

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_CREAT: Final = 0x40
O_EXCL: Final = 0x80
O_APPEND: Final = 0x400
O_DIRECTORY: Final = 0x1_0000
O_NOFOLLOW: Final = 0x2_0000
O_CLOEXEC: Final = 0x8_0000
O_PATH: Final = 0x20_0000
# As the kernel of Linux numbers them: requests of the front carry them.
O_DSYNC: Final = 0x1000
O_SYNC: Final = 0x10_1000
SEEK_SET: Final = 0
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4
XATTR_CREATE: Final = 1
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

# Programs may lie there as well.
MODE_OF_FILES: Final = modes.S_IFREG | 0o777
MODE_OF_DIRECTORIES: Final = modes.S_IFDIR | 0o777

_BASE: Final = 1 << 32
_THROUGH: Final = "\\\\.\\open\\"
_ATTRIBUTES: Final = files_nt.READ_ATTRIBUTES | files_nt.WRITE_ATTRIBUTES
_READONLY, _DIRECTORY, _REPARSE = 0x1, 0x10, 0x400
# 100 ns between 1601 and 1970.
_EPOCH: Final = 116_444_736_000_000_000
_HANDLE: Final = struct.Struct("=IiQ")
_HANDLE_TYPE: Final = 0x4E54
_DIRENT: Final = struct.Struct("<QqHB")
_NAME_UNITS_MAX: Final = 255

Name = bytes | str
Path = bytes | str | os.PathLike[str]


class Stat(NamedTuple):
    """The fields of os.stat_result that the engine reads."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_size: int
    st_blocks: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birth_ns: int
    st_uid: int = 0
    st_gid: int = 0
    st_rdev: int = 0
    st_blksize: int = 4096


def _handle(fd: int) -> int:
    """Of a descriptor of ours, or of an open file of Python's. OSError EBADF."""
    if fd >= _BASE:
        return fd - _BASE
    if fd < 0:
        raise OSError(errno.EBADF, f"{fd} is no descriptor")
    return msvcrt.get_osfhandle(fd)


def _name(path: Path) -> Name:
    return path if isinstance(path, bytes | str) else os.fspath(path)


def through(fd: int) -> str:
    """What leads to an open file wherever a path may be given."""
    return f"{_THROUGH}{fd}"


def _place(path: Path, dir_fd: int | None) -> tuple[int, bytes]:
    """(directory or 0, name in UTF-16) for `files_nt.create`."""
    if dir_fd is not None and path not in ("", ".", b"", b"."):
        return _handle(dir_fd), to_utf16(_name(path))
    if dir_fd is not None:
        return _handle(dir_fd), b""
    full = os.path.abspath(os.fsdecode(path))
    full = "UNC" + full[1:] if full.startswith("\\\\") else full
    return 0, ("\\??\\" + full).encode("utf-16-le", "surrogatepass")


def _opened(path: Path, dir_fd: int | None, access: int, options: int = 0) -> int:
    """A handle of what is there now, under exactly this name; of an open file another one."""
    if dir_fd is None and isinstance(path, str) and path.startswith(_THROUGH):
        return files_nt.duplicate(_handle(int(path.removeprefix(_THROUGH))))
    root, name = _place(path, dir_fd)
    handle = files_nt.create(root, name, access, files_nt.OPEN, options, path)
    if root and name and not _spelled(root, name):
        files_nt.close(handle)
        raise FileNotFoundError(errno.ENOENT, "there is only another spelling of this name", path)
    return handle


def _listed(directory: int, pattern: bytes = b"") -> list[tuple[bytes, int, int]]:
    """A fresh handle each time: a listing has its place and its pattern in it."""
    reader = files_nt.create(directory, b"", files_nt.READ, files_nt.OPEN, files_nt.DIRECTORY_FILE)
    try:
        return files_nt.entries(reader, pattern)
    finally:
        files_nt.close(reader)


def _spelled(directory: int, name: bytes) -> bool:
    return any(found == name for found, _, _ in _listed(directory, name))


# -- descriptors -------------------------------------------------------------------------------------------------------


def open(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """As os.open with O_NOFOLLOW always. What only names a file (O_PATH) has all rights as well: opening `through` it
    is doubling it, which no rename in between can mislead."""
    if dir_fd is None and isinstance(path, str) and path.startswith(_THROUGH):
        return _again(int(path.removeprefix(_THROUGH)), flags, path)
    writes = bool(flags & 3) or bool(flags & (O_PATH | O_DIRECTORY))
    access = _ATTRIBUTES | (files_nt.APPEND if writes else 0)
    access |= files_nt.WRITE if writes and not flags & O_APPEND else 0
    access |= files_nt.READ if flags & 3 != O_WRONLY else 0
    access |= files_nt.TRAVERSE if flags & (O_PATH | O_DIRECTORY) else 0
    options = files_nt.DIRECTORY_FILE if flags & O_DIRECTORY else 0
    options |= files_nt.NON_DIRECTORY_FILE if flags & (3 | O_CREAT) else 0
    if flags & O_CREAT:
        root, name = _place(path, dir_fd)
        disposition = files_nt.CREATE if flags & O_EXCL else files_nt.OPEN_OR_CREATE
        handle = files_nt.create(root, name, access, disposition, options, path)
        files_gone.made(handle)
    else:
        try:
            handle = _opened(path, dir_fd, access, options)
        except PermissionError:
            if not flags & O_PATH:
                raise
            handle = _opened(path, dir_fd, files_nt.READ | _ATTRIBUTES, options)  # a file marked read-only
        _allowed(handle, flags, path)
    _volumes[handle] = _volume_of(path, dir_fd, handle)
    return _BASE + handle


def _again(fd: int, flags: int, path: Path) -> int:
    handle = _handle(fd)
    is_dir = files_nt.information(handle)[9]
    if flags & O_DIRECTORY and not is_dir:
        raise NotADirectoryError(errno.ENOTDIR, "this is no directory", path)
    if flags & 3 and is_dir:
        raise IsADirectoryError(errno.EISDIR, "this is a directory", path)
    _allowed(handle, flags, path, keep=True)
    return dup(fd)


def _allowed(handle: int, flags: int, path: Path, *, keep: bool = False) -> None:
    """A link is opened itself; its content is nobody's."""
    if not flags & O_PATH and files_nt.information(handle)[4] & _REPARSE:
        if not keep:
            files_nt.close(handle)
        raise OSError(errno.ELOOP, "a link is not followed", path)


_volumes: Final[dict[int, int]] = {}
"""By open handle: the serial number of its volume."""


def _volume_of(path: Path, dir_fd: int | None, handle: int) -> int:
    """An entry lies on the volume of its directory, because nothing here follows a link."""
    if dir_fd is None and isinstance(path, str) and path.startswith(_THROUGH):
        return _volume(_handle(int(path.removeprefix(_THROUGH))))
    above = _volumes.get(_handle(dir_fd)) if dir_fd is not None else None
    return files_nt.volume_serial(handle) if above is None else above


def close(fd: int) -> None:
    if fd < _BASE:
        os.close(fd)
        return
    files_gone.unlock(fd)
    _volumes.pop(fd - _BASE, None)
    files_nt.close(fd - _BASE)


def dup(fd: int) -> int:
    handle = files_nt.duplicate(_handle(fd))
    _volumes[handle] = _volume(_handle(fd))
    return _BASE + handle


def _volume(handle: int) -> int:
    known = _volumes.get(handle)
    return files_nt.volume_serial(handle) if known is None else known


def pread(fd: int, size: int, offset: int) -> bytes:
    return files_nt.read(_handle(fd), size, offset)


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> int:
    return files_nt.write(_handle(fd), bytes(data), offset)


def write(fd: int, data: bytes) -> int:
    """At the end of the file: only files that are appended to are written so."""
    return files_nt.write(_handle(fd), data, -1)


def fsync(fd: int) -> None:
    """Data and what NTFS's journal has of the file, on the medium."""
    files_nt.flush(_handle(fd))


fdatasync = fsync


def ftruncate(fd: int, size: int) -> None:
    files_nt.set_size(_handle(fd), size)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Mode 0 (the file is as long as that afterwards, its room is reserved) and punching of holes."""
    handle = _handle(fd)
    size = files_nt.information(handle)[6]
    if mode == 0:
        if offset + length > size:
            files_nt.reserve(handle, offset + length)
            files_nt.set_size(handle, offset + length)
    elif mode == 0x3:
        if offset < size:
            files_nt.punch(handle, offset, min(offset + length, size))
    else:
        raise OSError(errno.EOPNOTSUPP, f"fallocate with mode {mode:#x} is not to be had on Windows")


def lseek(fd: int, offset: int, whence: int) -> int:
    """SEEK_DATA and SEEK_HOLE only; the position of a descriptor is used by nobody."""
    handle = _handle(fd)
    size = files_nt.information(handle)[6]
    if offset >= size:
        raise OSError(errno.ENXIO, f"{offset} is past the end")
    try:
        ranges = files_nt.allocated_ranges(handle, offset, size - offset)
    except files_nt.Unsupported:
        ranges = [(offset, size - offset)]
    if whence == SEEK_DATA:
        if not ranges:
            raise OSError(errno.ENXIO, f"there is no data from {offset} on")
        return max(offset, ranges[0][0])
    end = offset
    for start, length in ranges:
        if start > end:
            break
        end = start + length
    return min(end, size)


# -- attributes --------------------------------------------------------------------------------------------------------


def _stat_of(handle: int, volume: int) -> os.stat_result:
    created, accessed, written, changed, attributes, allocated, size, links, pending, is_dir, ident = (
        files_nt.information(handle)
    )
    if attributes & _REPARSE:
        mode = modes.S_IFLNK | 0o777
    else:
        mode = MODE_OF_DIRECTORIES if is_dir else MODE_OF_FILES
    links = 0 if pending and links <= 1 else max(0, links - files_gone.hidden_links(ident))
    found = Stat(
        mode, ident, volume, links, 0 if is_dir else size, -(-allocated // 512),
        *((ticks - _EPOCH) * 100 for ticks in (accessed, written, changed, created)),
    )  # fmt: skip
    return cast(os.stat_result, found)


def fstat(fd: int) -> os.stat_result:
    handle = _handle(fd)
    return _stat_of(handle, _volume(handle))


def stat(path: Path, *, dir_fd: int | None = None, follow_symlinks: bool = False) -> os.stat_result:
    handle = _opened(path, dir_fd, files_nt.READ_ATTRIBUTES)
    try:
        return _stat_of(handle, _volume_of(path, dir_fd, handle))
    finally:
        files_nt.close(handle)


def lstat(path: Path) -> os.stat_result:
    return stat(path)


class Space(NamedTuple):
    """The fields of os.statvfs_result that the engine reads. NTFS has no limit of files: the number is large."""

    f_bsize: int
    f_frsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int
    f_ffree: int
    f_favail: int
    f_fsid: int
    f_namemax: int


def fstatvfs(fd: int) -> os.statvfs_result:
    handle = _handle(fd)
    total, mine, free, unit = files_nt.volume_space(handle)
    serial = _volume(handle)
    found = Space(unit, unit, total, free, mine, 0xFFFF_FFFF, 0xFFFF_0000, 0xFFFF_0000, serial, _NAME_UNITS_MAX)
    return cast(os.statvfs_result, found)


def chmod(path: Path, mode: int, *, dir_fd: int | None = None) -> None:
    """Files have the mode of the mount; that, and taking the right to write away or giving it, change nothing."""
    found = modes.S_IMODE(stat(path, dir_fd=dir_fd).st_mode)
    if modes.S_IMODE(mode) != found:
        raise OSError(errno.EOPNOTSUPP, f"modes are not kept on Windows: {mode:o} cannot become {found:o}", path)


def fchmod(fd: int, mode: int) -> None:
    chmod(through(fd), mode)


def chown(path: Path, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = False) -> None:
    stat(path, dir_fd=dir_fd)
    if uid not in (0, -1) or gid not in (0, -1):
        raise OSError(errno.EOPNOTSUPP, f"owners are not kept on Windows: {uid}:{gid} cannot be given", path)


def utime(path: Path | int, *, ns: tuple[int, int]) -> None:
    """(accessed, modified). Times before 1601 are EINVAL."""
    accessed, written = (moment // 100 + _EPOCH for moment in ns)
    if accessed <= 0 or written <= 0:
        raise OSError(errno.EINVAL, f"{ns} are no times of NTFS", path)
    handle = _opened(path if not isinstance(path, int) else through(path), None, _ATTRIBUTES)
    try:
        files_nt.set_times(handle, accessed, written)
    finally:
        files_nt.close(handle)


def getxattr(path: Path, key: Path) -> bytes:
    raise OSError(errno.EOPNOTSUPP, "there are no extended attributes on Windows", path)


def setxattr(path: Path, key: Path, value: bytes, flags: int = 0) -> None:
    raise OSError(errno.EOPNOTSUPP, "there are no extended attributes on Windows", path)


def removexattr(path: Path, key: Path) -> None:
    raise OSError(errno.EOPNOTSUPP, "there are no extended attributes on Windows", path)


def listxattr(path: Path) -> list[str]:
    stat(path)
    return []


# -- names -------------------------------------------------------------------------------------------------------------


def mkdir(name: Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    root, text = _place(name, None) if dir_fd is None else (_handle(dir_fd), to_utf16(_name(name)))
    handle = files_nt.create(root, text, _ATTRIBUTES, files_nt.CREATE, files_nt.DIRECTORY_FILE, name)
    files_gone.made(handle)
    files_nt.close(handle)


def mknod(name: Path, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
    if modes.S_IFMT(mode) not in (0, modes.S_IFREG):
        raise OSError(errno.EOPNOTSUPP, f"a node of type {modes.S_IFMT(mode):o} cannot be made on Windows", name)
    close(open(name, O_RDWR | O_CREAT | O_EXCL, dir_fd=dir_fd))


def symlink(target: Path, name: Path, *, dir_fd: int | None = None) -> None:
    raise OSError(errno.EOPNOTSUPP, "symbolic links are not replicated on Windows", name)


def readlink(path: Path, *, dir_fd: int | None = None) -> bytes:
    raise OSError(errno.EOPNOTSUPP, "symbolic links and junctions are not replicated on Windows", path)


def link(source: Path, name: Path, *, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
    handle = _opened(source, None, _ATTRIBUTES)
    try:
        files_nt.link(handle, _handle(dst_dir_fd), to_utf16(_name(name)))
    finally:
        files_nt.close(handle)


def unlink(name: Path, *, dir_fd: int | None = None) -> None:
    _remove(name, dir_fd, 0)


def rmdir(name: Path, *, dir_fd: int | None = None) -> None:
    _remove(name, dir_fd, files_nt.DIRECTORY_FILE)


def _remove(name: Path, dir_fd: int | None, options: int) -> None:
    handle = _opened(name, dir_fd, files_nt.DELETE | files_nt.READ | _ATTRIBUTES, options)
    try:
        facts = files_nt.information(handle)
        if not options and facts[9] and not facts[4] & _REPARSE:
            raise OSError(errno.EISDIR, "a directory is not unlinked", name)
        try:
            files_nt.delete_posix(handle)
        except files_nt.Unsupported:
            if dir_fd is None:
                raise
            files_gone.remove(_handle(dir_fd), handle)
    finally:
        files_nt.close(handle)


def rename(old: Path, new: Path, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """As rename(2): what `new` stood for is replaced; a directory must be empty for that."""
    _rename(old, new, src_dir_fd, dst_dir_fd, replace=True)


def renameat2(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> None:
    if flags & ~RENAME_NOREPLACE:
        raise OSError(errno.EINVAL, f"names cannot be exchanged on Windows (flags {flags})", old)
    _rename(old, new, old_dir, new_dir, replace=not flags)


def closes_before_moves(shed: Callable[[], None]) -> None:
    """NT moves no directory below which anything is open: `shed` (a bound method) is called before one is moved, and
    closes what it can open again by its handle."""
    _holders.append(WeakMethod(shed))
    _holders[:] = [holder for holder in _holders if holder() is not None]


_holders: Final[list[WeakMethod[Callable[[], None]]]] = []


def _rename(old: Path, new: Path, old_dir: int, new_dir: int, *, replace: bool) -> None:
    directory, text = _handle(new_dir), to_utf16(_name(new))
    handle = _opened(old, old_dir, files_nt.DELETE | _ATTRIBUTES)
    try:
        mine = files_nt.information(handle)
        there = _there(directory, text)
        respelled = there is not None and there[2] == mine[10]
        if there is not None and respelled:
            if there[0] == text:
                return  # two names of one file: nothing changes (rename(2))
            if folded(os.fsencode(old)) != folded(os.fsencode(new)):
                raise FileExistsError(errno.EEXIST, "another spelling of this name is there", new)
        elif there is not None:
            _must_give_way(mine, there, new, text, replace=replace)
        if mine[9]:
            for holder in list(_holders):
                if (shed := holder()) is not None:
                    shed()
        if there is not None and there[1] & _DIRECTORY and not respelled:
            rmdir(new, dir_fd=new_dir)
        try:
            files_nt.rename_posix(handle, directory, text, replace=replace)
        except files_nt.Unsupported:
            if there is not None and not there[1] & _DIRECTORY and not respelled:
                unlink(new, dir_fd=new_dir)
            files_gone.rename(handle, directory, text, respelled=respelled)
    finally:
        files_nt.close(handle)


def _there(directory: int, name: bytes) -> tuple[bytes, int, int] | None:
    """What a name stands for, in whatever spelling: (its spelling, attributes, file id)."""
    found = _listed(directory, name)
    return found[0] if found else None


def _must_give_way(
    mine: tuple[int, ...], there: tuple[bytes, int, int], new: Path, text: bytes, *, replace: bool
) -> None:
    if there[0] != text or not replace:
        raise FileExistsError(errno.EEXIST, "this name, or another spelling of it, is there", new)
    if there[1] & _DIRECTORY and not mine[9]:
        raise IsADirectoryError(errno.EISDIR, "a file does not replace a directory", new)
    if mine[9] and not there[1] & _DIRECTORY:
        raise NotADirectoryError(errno.ENOTDIR, "a directory does not replace a file", new)


def respell(directory: int, name: bytes) -> None:
    """Gives a name that is there in another spelling this one; nothing if there is none, or it is spelled so."""
    there = _there(_handle(directory), to_utf16(_name(name)))
    if there is not None and there[0] != to_utf16(_name(name)):
        rename(from_utf16(there[0]), name, src_dir_fd=directory, dst_dir_fd=directory)


def spelling(directory: int, name: bytes) -> bytes:
    """As the directory spells a name; as it is given, if it is not there."""
    there = _there(_handle(directory), to_utf16(_name(name)))
    return name if there is None else from_utf16(there[0])


# -- listing -----------------------------------------------------------------------------------------------------------


def _seen(fd: int) -> list[tuple[bytes, int, int]]:
    """(name, attributes, file id) of what a directory shows."""
    found = [entry for entry in _listed(_handle(fd)) if files_gone.is_seen(entry[0])]
    return [(from_utf16(name), attributes, ident) for name, attributes, ident in found]


def listdir(fd: int | str) -> list[str]:
    if isinstance(fd, str):
        return os.listdir(fd)
    return [os.fsdecode(name) for name, _, _ in _seen(fd)]


def entries(fd: int) -> list[tuple[bytes, os.stat_result]]:
    """Names and attributes; what vanishes meanwhile is left out."""
    found = []
    for name, _, _ in _seen(fd):
        try:
            found.append((name, stat(name, dir_fd=fd)))
        except FileNotFoundError:
            continue
    return found


def directory_page(fd: int, offset: int, size: int) -> bytes:
    """linux_dirent64 records after the cookie `offset`, in the order of their file ids: a cookie (a file id) stays
    right whatever is made or removed meanwhile. Names of one file are never parted."""
    wanted = sorted((entry for entry in _seen(fd) if entry[2] > offset), key=lambda entry: (entry[2], entry[0]))
    page: list[bytes] = []
    room, whole = 0, 0
    for index, (name, attributes, ident) in enumerate(wanted):
        kind = modes.S_IFMT(MODE_OF_DIRECTORIES if attributes & _DIRECTORY else MODE_OF_FILES) >> 12
        length = (_DIRENT.size + len(name) + 1 + 7) & ~7
        if room + length > size:
            break
        room += length
        page.append((_DIRENT.pack(ident, ident, length, kind) + name).ljust(length, b"\0"))
        if index + 1 == len(wanted) or wanted[index + 1][2] != ident:
            whole = len(page)
    if wanted and not whole:
        raise OSError(errno.EINVAL, f"{size} bytes have no room for the names of one file")
    return b"".join(page[:whole])


# -- handles and file systems ------------------------------------------------------------------------------------------


def handle_of(fd: int) -> bytes:
    """The file id, in the form of Linux's file handles. NTFS does not use an id again."""
    return _HANDLE.pack(8, _HANDLE_TYPE, files_nt.information(_handle(fd))[10])


def open_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    size, kind, ident = _HANDLE.unpack(handle)
    if (size, kind) != (8, _HANDLE_TYPE):
        raise OSError(errno.ESTALE, "this handle was not made here")
    options = files_nt.OPEN_BY_FILE_ID | (files_nt.DIRECTORY_FILE if flags & O_DIRECTORY else 0)
    access = files_nt.READ | files_nt.WRITE | files_nt.APPEND | files_nt.TRAVERSE | _ATTRIBUTES
    try:
        found = files_nt.create(_handle(mount_fd), struct.pack("<Q", ident), access, files_nt.OPEN, options)
        _volumes[found] = _volume(_handle(mount_fd))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise OSError(errno.ESTALE, f"file {ident:#x} is gone") from error
        raise
    return _BASE + found


def path_of(fd: int) -> str:
    return files_nt.path_of(_handle(fd))


def beneath(fd: int, name: bytes) -> str:
    return os.path.join(path_of(fd), os.fsdecode(name))


def file_system_of(fd: int) -> int:
    """No number that `roots` knows: NTFS writes change times when a file is closed, and anybody may set them."""
    return 0


def birth_ns(fd: int) -> int | None:
    """None: the time of making can be set by anybody."""
    return None


def syncfs(fd: int) -> None:
    """The volume, in one call; where it cannot be opened (that takes an administrator), everything below `fd`."""
    if not _flush_volume(path_of(fd)):
        _flush_below(fd)


def _flush_volume(path: str) -> bool:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateFileW.restype = ctypes.c_void_p
    kernel.CloseHandle.argtypes = [ctypes.c_void_p]
    kernel.FlushFileBuffers.argtypes = [ctypes.c_void_p]
    top, name = ctypes.create_unicode_buffer(1024), ctypes.create_unicode_buffer(64)
    if not kernel.GetVolumePathNameW(path, top, len(top)):
        return False
    if not kernel.GetVolumeNameForVolumeMountPointW(top, name, len(name)):
        return False
    handle = kernel.CreateFileW(name.value.rstrip("\\"), 0x4000_0000, 7, None, 3, 0, None)
    if handle in (None, ctypes.c_void_p(-1).value):
        return False
    try:
        return bool(kernel.FlushFileBuffers(handle))
    finally:
        kernel.CloseHandle(handle)


def _flush_below(fd: int) -> None:
    for name, attributes, _ in _seen(fd):
        if attributes & _REPARSE:
            continue
        flags = (O_RDONLY | O_DIRECTORY) if attributes & _DIRECTORY else O_RDWR
        try:
            inner = open(name, flags, dir_fd=fd)
        except FileNotFoundError:
            continue
        try:
            if attributes & _DIRECTORY:
                _flush_below(inner)
            else:
                fsync(inner)
        finally:
            close(inner)
    fsync(fd)


def purge(fd: int) -> None:
    files_gone.purge(_handle(fd))


def try_lock(fd: int) -> None:
    """Until the descriptor is closed, nobody else on this machine locks the same file. BlockingIOError."""
    handle = _handle(fd)
    files_gone.lock(fd, f"{_volume(handle):x}-{files_nt.information(handle)[10]:x}")
