"""What an application on ext4 may do with the content of files; see `posix_names` for how the cases are run."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.lab.mirror.posix_names import libc, refused

FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO = 1, 2, 16


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def appends(root: Path) -> None:
    first = os.open(root / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    second = os.open(root / "f", os.O_WRONLY | os.O_APPEND)
    for number in range(50):
        os.write(first if number % 2 else second, f"{number:03d}\n".encode())
    os.lseek(first, 0, os.SEEK_SET)
    os.write(first, b"end\n")
    os.close(first)
    os.close(second)
    assert (root / "f").read_bytes() == b"".join(f"{n:03d}\n".encode() for n in range(50)) + b"end\n"


def parallel_appends(root: Path) -> None:
    def work(letter: bytes) -> None:
        fd = os.open(root / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for _ in range(40):
            os.write(fd, letter * 99 + b"\n")
        os.close(fd)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (root / "f").read_bytes().splitlines()
    assert len(lines) == 160
    assert all(len(set(line)) == 1 and len(line) == 99 for line in lines)


def truncates(root: Path) -> None:
    path = root / "f"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.ftruncate(fd, 5_000_000_000)
    assert os.pread(fd, 4, 4_999_999_990) == b"\0\0\0\0"
    os.close(fd)
    os.truncate(path, 3)
    refused(errno.EFBIG, os.truncate, path, 1 << 60)


def sparse_files(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 10_000_000)
    os.pwrite(fd, b"middle", 4 * 65536)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 4 * 65536
    assert os.lseek(fd, 4 * 65536, os.SEEK_HOLE) == 4 * 65536 + 4096
    refused(errno.ENXIO, os.lseek, fd, 20_000_000, os.SEEK_DATA)
    assert os.pread(fd, 10, 100) == bytes(10)
    assert os.fstat(fd).st_blocks * 512 < 100_000
    os.close(fd)


def allocation(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"x" * 65536, 0)
    fallocate(fd, FALLOC_KEEP_SIZE, 65536, 65536)
    assert os.fstat(fd).st_size == 65536
    fallocate(fd, 0, 65536, 65536)
    assert os.fstat(fd).st_size == 131072
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 4096, 8192)
    assert os.pread(fd, 12288, 0) == b"x" * 4096 + bytes(8192)
    fallocate(fd, FALLOC_ZERO, 16384, 100)
    assert os.pread(fd, 101, 16384) == bytes(100) + b"x"
    refused(errno.EOPNOTSUPP, fallocate, fd, FALLOC_PUNCH_HOLE, 0, 4096)
    refused(errno.EINVAL, os.posix_fallocate, fd, 0, 0)
    os.close(fd)


def every_size_and_offset(root: Path) -> None:
    generator = random.Random(1)
    model = bytearray()
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    for _ in range(60):
        size = generator.choice((1, 7, 511, 4095, 4096, 4097, 65536, 300_001))
        offset = generator.randrange(0, 500_000)
        data = generator.randbytes(size)
        assert os.pwrite(fd, data, offset) == size
        if len(model) < offset + size:
            model.extend(bytes(offset + size - len(model)))
        model[offset : offset + size] = data
        start = generator.randrange(0, len(model))
        assert os.pread(fd, 70_000, start) == bytes(model[start : start + 70_000])
    os.close(fd)
    assert (root / "f").read_bytes() == bytes(model)


def one_large_write(root: Path) -> None:
    data = os.urandom(5 * 1024 * 1024 + 17)
    fd = os.open(root / "f", os.O_CREAT | os.O_WRONLY)
    assert os.write(fd, data) == len(data)
    assert os.writev(fd, [b"a" * 10, b"b" * 5000]) == 5010
    os.close(fd)
    assert (root / "f").read_bytes() == data + b"a" * 10 + b"b" * 5000


def synchronous_writes(root: Path) -> None:
    for name, flag in (("dsync", os.O_DSYNC), ("sync", os.O_SYNC)):
        fd = os.open(root / name, os.O_CREAT | os.O_WRONLY | flag)
        for number in range(5):
            os.write(fd, bytes([number]) * 1000)
        os.close(fd)
        assert (root / name).stat().st_size == 5000
    fd = os.open(root / "sync", os.O_RDONLY)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    os.sync()


def direct_io(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 16384) as buffer:
        buffer.write(b"d" * 16384)
        assert os.pwritev(fd, [buffer], 0) == 16384
        assert os.pwritev(fd, [memoryview(buffer)[:4096]], 32768) == 4096
        with mmap.mmap(-1, 4096) as target:
            assert os.preadv(fd, [target], 32768) == 4096
            assert target[:4096] == b"d" * 4096
    os.close(fd)
    assert (root / "f").stat().st_size == 36864


def shared_mapping(root: Path) -> None:
    path = root / "f"
    path.write_bytes(bytes(8192))
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 8192, mmap.MAP_SHARED) as mapping:
        mapping[100:105] = b"hello"
        assert path.read_bytes()[100:105] == b"hello"
        os.pwrite(fd, b"world", 5000)
        assert mapping[5000:5005] == b"world"
        mapping[8191] = 7
        mapping.flush()
        other = os.open(path, os.O_RDWR)
        with mmap.mmap(other, 8192, mmap.MAP_SHARED) as second:
            second[0] = 1
            assert mapping[0] == 1
        os.close(other)
    os.close(fd)


def private_mapping_and_exec(root: Path) -> None:
    script = root / "run"
    script.write_bytes(Path("/bin/true").read_bytes())
    os.chmod(script, 0o755)
    assert subprocess.run([str(script)], check=False).returncode == 0


def locks(root: Path) -> None:
    path = root / "f"
    path.write_bytes(bytes(100))
    probe = (
        "import fcntl, struct, sys\n"
        "f = open(sys.argv[1], 'r+b')\n"
        "try:\n"
        "    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0) if sys.argv[2] == 'posix' "
        "else fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n"
        "    sys.exit(7)\n"
    )

    def other(kind: str) -> int:
        return subprocess.run([sys.executable, "-c", probe, str(path), kind], check=False).returncode

    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
    assert other("posix") == 7
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 0)
    assert other("posix") == 0
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert other("flock") == 7
    os.close(fd)
    assert other("flock") == 0
    assert struct.calcsize("i") == 4


def copies(root: Path) -> None:
    data = os.urandom(300_000)
    (root / "a").write_bytes(data)
    source, target = os.open(root / "a", os.O_RDONLY), os.open(root / "b", os.O_CREAT | os.O_WRONLY)
    done = 0
    while count := os.copy_file_range(source, target, 100_000):
        done += count
    assert done == len(data)
    os.sendfile(target, source, 0, 1000)
    os.close(source)
    os.close(target)
    assert (root / "b").read_bytes() == data + data[:1000]


def free_space(root: Path) -> None:
    st = os.statvfs(root)
    assert st.f_bavail > 0
    assert st.f_blocks > st.f_bavail
    assert st.f_namemax == 255


def times_follow_changes(root: Path) -> None:
    path = root / "f"
    path.write_text("x")
    os.utime(path, ns=(0, 0))
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"y")
    assert os.fstat(fd).st_mtime_ns > 0
    os.utime(path, ns=(0, 5))
    assert os.fstat(fd).st_mtime_ns == 5
    os.ftruncate(fd, 0)
    assert os.fstat(fd).st_mtime_ns > 5
    os.close(fd)


CASES = [
    appends,
    parallel_appends,
    truncates,
    sparse_files,
    allocation,
    every_size_and_offset,
    one_large_write,
    synchronous_writes,
    direct_io,
    shared_mapping,
    private_mapping_and_exec,
    locks,
    copies,
    free_space,
    times_follow_changes,
]
