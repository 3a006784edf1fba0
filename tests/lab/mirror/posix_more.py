"""Rarer things an application on ext4 may do; see `posix_names` for how the cases are run."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.mirror.posix_data import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate
from tests.lab.mirror.posix_names import EXCHANGE, libc, refused, renameat2

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
OFD_SETLK = 37


def every_byte_in_names(root: Path) -> None:
    base = os.fsencode(root)
    names = [bytes([value]) * 3 for value in range(1, 256) if value != ord("/")]
    for name in names:
        os.close(os.open(os.path.join(base, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    names[names.index(b"...")] = b"three dots"
    os.rename(os.path.join(base, b"..."), os.path.join(base, b"three dots"))
    assert sorted(os.listdir(base)) == sorted(names)
    os.symlink(b"\xff\n\x01 any bytes", os.path.join(base, b"link"))
    assert os.readlink(os.path.join(base, b"link")) == b"\xff\n\x01 any bytes"


def far_offsets(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    far = 1 << 42
    assert os.pwrite(fd, b"far away", far) == 8
    assert os.fstat(fd).st_size == far + 8
    assert os.pread(fd, 10, far - 1) == b"\0far away"
    assert os.lseek(fd, 0, os.SEEK_DATA) == far
    os.ftruncate(fd, 100)
    refused(errno.EFBIG, os.pwrite, fd, b"x", (1 << 44) + 1)
    refused(errno.EINVAL, os.pwrite, fd, b"x", -1)
    os.close(fd)
    assert (root / "f").stat().st_size == 100


def utimensat(path: Path, seconds: tuple[int, int], nanoseconds: tuple[int, int]) -> None:
    times = struct.pack("<qqqq", seconds[0], nanoseconds[0], seconds[1], nanoseconds[1])
    if libc.utimensat(-100, os.fsencode(path), times, 0) != 0:
        raise OSError(ctypes.get_errno(), "utimensat")


def times_now_and_omitted(root: Path) -> None:
    path = root / "f"
    path.touch()
    os.utime(path, ns=(11, 22))
    utimensat(path, (5, 0), (7, UTIME_OMIT))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (5_000_000_007, 22)
    utimensat(path, (0, 9), (UTIME_OMIT, 8))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (5_000_000_007, 9_000_000_008)
    utimensat(path, (0, 0), (UTIME_OMIT, UTIME_NOW))
    assert path.stat().st_mtime_ns > 1_000_000_000_000_000_000
    before = path.stat().st_ctime_ns
    os.chmod(path, 0o600)
    assert path.stat().st_ctime_ns >= before


def write_flags(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    assert os.pwritev(fd, [b"flushed"], 0, os.RWF_DSYNC) == 7
    assert os.pwritev(fd, [b" too"], 7, os.RWF_SYNC) == 4
    assert os.pwritev(fd, [b" appended"], 0, os.RWF_APPEND) == 9
    assert os.pread(fd, 100, 0) == b"flushed too appended"
    os.close(fd)


def truncation_on_open(root: Path) -> None:
    (root / "f").write_bytes(b"0123456789")
    first = os.open(root / "f", os.O_RDWR)
    second = os.open(root / "f", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(first).st_size == 0
    assert os.pread(first, 10, 0) == b""
    os.pwrite(first, b"again", 5)
    assert os.pread(second, 10, 0) == b"\0\0\0\0\0again"
    refused(errno.ENOTDIR, os.open, root / "f", os.O_RDONLY | os.O_DIRECTORY)
    os.close(first)
    os.close(second)


def mapping_at_the_end(root: Path) -> None:
    """The rest of the last page is zero and never becomes part of the file."""
    path = root / "f"
    path.write_bytes(b"x" * 5000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 5000, mmap.MAP_SHARED) as mapping:
        mapping[4990:5000] = b"0123456789"
        mapping.flush()
    os.ftruncate(fd, 4995)
    os.ftruncate(fd, 9000)
    assert os.pread(fd, 20, 4988) == b"xx01234" + bytes(13)
    with mmap.mmap(fd, 4096, mmap.MAP_PRIVATE) as private:
        private[0:5] = b"never"
    assert os.pread(fd, 5, 0) == b"xxxxx"
    os.close(fd)


def holes_after_punching(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"d" * 65536, 0)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 16384, 16384)
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 16384
    assert os.lseek(fd, 16384, os.SEEK_DATA) == 32768
    assert os.lseek(fd, 40000, os.SEEK_HOLE) == 65536
    refused(errno.ENXIO, os.lseek, fd, 65536, os.SEEK_HOLE)
    os.close(fd)


def directories_renamed_in_use(root: Path) -> None:
    (root / "a" / "deep").mkdir(parents=True)
    (root / "b").mkdir()
    inside = os.open(root / "a" / "deep", os.O_RDONLY | os.O_DIRECTORY)
    os.rename(root / "a", root / "b" / "a")
    os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
    assert (root / "b" / "a" / "deep" / "made").exists()
    (root / "c").mkdir()
    renameat2(root / "c", root / "b" / "a", EXCHANGE)
    os.mkdir("again", dir_fd=inside)
    assert (root / "c" / "deep" / "again").is_dir()
    os.close(inside)
    refused(errno.EINVAL, os.rename, root / "c", root / "c" / "deep" / "c")
    refused(errno.ENOTEMPTY, os.rename, root / "b", root / "c")
    os.rename(root / "b" / "a", root / "d")
    os.rename(root / "c" / "deep", root / "d")
    assert sorted(os.listdir(root / "d")) == ["again", "made"]
    assert (root / "c").stat().st_nlink == 2


def listing_while_names_change(root: Path) -> None:
    """The names fill more than one buffer of the C library (32 KiB), so that it comes back for more in between."""
    count = 480
    for number in range(count):
        os.close(os.open(root / f"{number:080d}", os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(root) as entries:
        for entry in entries:
            seen.append(entry.name)
            number = int(entry.name)
            if number % 4 == 0:
                os.unlink(entry.path)
            elif number % 4 == 1:
                os.chmod(entry.path, 0o600)
    assert len(seen) == len(set(seen)) == count
    assert len(os.listdir(root)) == count - count // 4


def in_a_child(work: Callable[[], None]) -> int:
    """The exit code of a process that does the work without privileges."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(4001)
            os.setuid(4001)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sticky_directory(root: Path) -> None:
    os.chmod(root, 0o1777)
    for place in root.parents[:1]:
        os.chmod(place, 0o755)
    (root / "roots").touch()
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def work() -> None:
        os.close(os.open("mine", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        os.rename("mine", "still mine", src_dir_fd=directory, dst_dir_fd=directory)
        refused(errno.EPERM, os.unlink, "roots", dir_fd=directory)
        refused(errno.EPERM, os.rename, "still mine", "roots", src_dir_fd=directory, dst_dir_fd=directory)
        refused(errno.EPERM, os.chown, "still mine", 0, 0, dir_fd=directory)

    assert in_a_child(work) == 0
    os.close(directory)
    assert sorted(os.listdir(root)) == ["roots", "still mine"]


def attributes_of_every_kind(root: Path) -> None:
    (root / "d").mkdir()
    (root / "f").touch()
    os.symlink("f", root / "s")
    os.mkfifo(root / "p")
    for name in ("d", "f", "s", "p"):
        os.setxattr(root / name, "trusted.kind", name.encode(), follow_symlinks=False)
        assert os.getxattr(root / name, "trusted.kind", follow_symlinks=False) == name.encode()
    refused(errno.EPERM, os.setxattr, root / "p", "user.no", b"x")
    refused(errno.EOPNOTSUPP, os.setxattr, root / "f", "unknown.no", b"x")
    refused(errno.ERANGE, os.setxattr, root / "f", "user." + "n" * 300, b"x")
    for number in range(20):
        os.setxattr(root / "d", f"user.number{number}", bytes([number]) * number)
    for number in range(0, 20, 2):
        os.removexattr(root / "d", f"user.number{number}")
    assert len(os.listxattr(root / "d")) == 11


def open_file_description_locks(root: Path) -> None:
    path = root / "f"
    path.write_bytes(bytes(100))
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 50, 0)
    fcntl.fcntl(first, OFD_SETLK, whole)
    refused(errno.EAGAIN, fcntl.fcntl, second, OFD_SETLK, whole)
    fcntl.fcntl(second, OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 50, 50, 0))
    os.close(first)
    fcntl.fcntl(second, OFD_SETLK, whole)
    os.close(second)


def shared_between_processes(root: Path) -> None:
    """Two processes, one mapping, one writer through write(2)."""
    path = root / "f"
    path.write_bytes(bytes(4096))
    program = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "m = mmap.mmap(fd, 4096)\n"
        "m[0:5] = b'child'\n"
        "os.pwrite(fd, b'written', 100)\n"
        "assert m[100:107] == b'written'\n"
        "m.flush()\n"
    )
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 4096) as mapping:
        assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 0
        assert mapping[0:5] == b"child"
        assert mapping[100:107] == b"written"
    os.close(fd)


def many_links(root: Path) -> None:
    (root / "d").mkdir()
    (root / "f").write_text("one")
    for number in range(200):
        os.link(root / "f", root / "d" / str(number))
    assert (root / "f").stat().st_nlink == 201
    for number in range(0, 200, 2):
        os.rename(root / "d" / str(number), root / f"moved{number}")
    os.unlink(root / "f")
    (root / "d" / "1").write_text("through any name")
    assert (root / "moved100").read_text() == "through any name"
    assert (root / "moved0").stat().st_nlink == 200
    assert stat.S_ISREG((root / "moved0").stat().st_mode)


CASES = [
    every_byte_in_names,
    far_offsets,
    times_now_and_omitted,
    write_flags,
    truncation_on_open,
    mapping_at_the_end,
    holes_after_punching,
    directories_renamed_in_use,
    listing_while_names_change,
    sticky_directory,
    attributes_of_every_kind,
    open_file_description_locks,
    shared_between_processes,
    many_links,
]
