"""The conformance suite of the port by which the engine reaches its copy: the same cases, the same errors, on both
systems. Here on Linux; `python -m tools.windows.python -- -m pytest tests/unit/mirror/test_files.py` on Windows' NT."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.mirror import files

NEW = files.O_RDWR | files.O_CREAT | files.O_EXCL | files.O_CLOEXEC
PATH = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
DIRECTORY = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
WINDOWS = sys.platform == "win32"


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    fd = files.open(str(tmp_path), DIRECTORY)
    yield fd
    files.close(fd)


def refused(number: int, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments, **named)
    assert caught.value.errno == number, caught.value


def make(top: int, name: bytes, data: bytes = b"") -> int:
    fd = files.open(name, NEW, 0o666, dir_fd=top)
    if data:
        assert files.pwrite(fd, data, 0) == len(data)
    return fd


def made(top: int, name: bytes, data: bytes = b"") -> None:
    files.close(make(top, name, data))


def content(top: int, name: bytes) -> bytes:
    fd = files.open(name, files.O_RDONLY | files.O_CLOEXEC, dir_fd=top)
    try:
        return files.pread(fd, 1 << 20, 0)
    finally:
        files.close(fd)


def names(top: int) -> set[bytes]:
    fd = files.open(files.through(top), DIRECTORY & ~files.O_NOFOLLOW)
    try:
        return {os.fsencode(name) for name in files.listdir(fd)}
    finally:
        files.close(fd)


# -- data --------------------------------------------------------------------------------------------------------------


def test_what_is_written_somewhere_is_read_there(top: int) -> None:
    fd = make(top, b"f")
    assert files.pwrite(fd, b"world", 5) == 5
    assert files.pwrite(fd, memoryview(b"hello"), 0) == 5
    assert files.pwrite(fd, b"", 100) == 0
    assert files.pread(fd, 100, 0) == b"helloworld"
    assert files.pread(fd, 3, 8) == b"ld"
    assert files.pread(fd, 3, 10) == files.pread(fd, 3, 1000) == b""
    assert files.fstat(fd).st_size == 10
    files.close(fd)


def test_a_gap_reads_as_zeros(top: int) -> None:
    fd = make(top, b"f")
    files.pwrite(fd, b"x", 300_000)
    assert files.pread(fd, 400_000, 0) == bytes(300_000) + b"x"
    files.close(fd)


def test_a_file_is_cut_and_grown(top: int) -> None:
    fd = make(top, b"f", b"0123456789")
    files.ftruncate(fd, 4)
    assert files.pread(fd, 100, 0) == b"0123"
    files.ftruncate(fd, 8)
    assert files.pread(fd, 100, 0) == b"0123\0\0\0\0"
    files.close(fd)


def test_room_is_reserved_or_refused(top: int) -> None:
    fd = make(top, b"f", b"0123")
    refusal = 0
    try:
        files.fallocate(fd, 0, 2, 10)
    except OSError as error:
        refusal = error.errno or 0
    assert (refusal, files.fstat(fd).st_size) in ((0, 12), (errno.EOPNOTSUPP, 4))
    assert files.pread(fd, 100, 0).rstrip(b"\0") == b"0123"
    files.close(fd)


def test_a_log_grows_at_its_end(top: int, tmp_path: Path) -> None:
    fd = files.open(tmp_path / "log", files.O_WRONLY | files.O_CREAT | files.O_EXCL | files.O_APPEND, 0o600)
    assert files.write(fd, b"one") == 3
    assert files.write(fd, b"two") == 3
    files.fdatasync(fd)
    files.close(fd)
    assert content(top, b"log") == b"onetwo"


def test_everything_is_flushed(top: int) -> None:
    fd = make(top, b"f", b"x")
    files.fsync(fd)
    files.fdatasync(fd)
    files.mkdir(b"d", dir_fd=top)
    files.fsync(top)
    files.syncfs(top)
    files.close(fd)


def test_a_file_opened_by_python_is_taken_as_well(top: int, tmp_path: Path) -> None:
    with open(tmp_path / "p", "xb", buffering=0) as stream:
        files.pwrite(stream.fileno(), b"abc", 2)
        files.fsync(stream.fileno())
        assert files.fstat(stream.fileno()).st_size == 5
    with open(tmp_path / "p", "rb") as stream:
        assert files.pread(stream.fileno(), 10, 1) == b"\0abc"


def test_data_and_holes_are_told_apart_or_all_is_data(top: int) -> None:
    fd = make(top, b"f", b"x" * 100)
    assert files.lseek(fd, 10, files.SEEK_DATA) == 10
    assert files.lseek(fd, 10, files.SEEK_HOLE) == 100
    refused(errno.ENXIO, files.lseek, fd, 100, files.SEEK_DATA)
    files.close(fd)


def test_a_descriptor_may_be_doubled(top: int) -> None:
    fd = make(top, b"f", b"x")
    other = files.dup(fd)
    files.close(fd)
    assert files.pread(other, 1, 0) == b"x"
    files.close(other)


def test_what_is_only_read_cannot_be_written(top: int) -> None:
    made(top, b"f", b"x")
    fd = files.open(b"f", files.O_RDONLY, dir_fd=top)
    with pytest.raises(OSError):
        files.pwrite(fd, b"y", 0)
    files.close(fd)


# -- attributes --------------------------------------------------------------------------------------------------------


def test_kinds_and_numbers(top: int) -> None:
    made(top, b"f", b"abc")
    files.mkdir(b"d", 0o755, dir_fd=top)
    a, d = (files.stat(name, dir_fd=top, follow_symlinks=False) for name in (b"f", b"d"))
    assert stat.S_ISREG(a.st_mode)
    assert stat.S_ISDIR(d.st_mode)
    assert a.st_ino != d.st_ino
    assert a.st_dev == d.st_dev == files.fstat(top).st_dev
    assert (a.st_size, a.st_nlink, a.st_rdev) == (3, 1, 0)
    fd = files.open(b"f", PATH, dir_fd=top)
    assert files.fstat(fd).st_ino == a.st_ino
    files.close(fd)


def test_times_are_set_through_a_descriptor(top: int) -> None:
    made(top, b"f")
    fd = files.open(b"f", PATH, dir_fd=top)
    files.utime(files.through(fd), ns=(1_600_000_000_123_456_700, 1_500_000_000_000_000_100))
    st = files.fstat(fd)
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_600_000_000_123_456_700, 1_500_000_000_000_000_100)
    files.close(fd)
    files.utime(files.through(top), ns=(1_400_000_000_000_000_000, 1_400_000_000_000_000_000))
    assert files.fstat(top).st_mtime_ns == 1_400_000_000_000_000_000


def test_a_mode_that_is_already_so_may_be_given(top: int) -> None:
    made(top, b"f")
    fd = files.open(b"f", PATH, dir_fd=top)
    files.chmod(files.through(fd), stat.S_IMODE(files.fstat(fd).st_mode))
    st = files.fstat(fd)
    files.chown(files.through(fd), st.st_uid, st.st_gid)
    assert files.listxattr(files.through(fd)) == []
    files.close(fd)


def test_free_room(top: int) -> None:
    st = files.fstatvfs(top)
    assert st.f_blocks >= st.f_bfree >= st.f_bavail > 0
    assert st.f_frsize >= 512
    assert st.f_ffree > 0
    assert st.f_namemax >= 255


def test_a_descriptor_knows_where_it_is(top: int, tmp_path: Path) -> None:
    files.mkdir(b"d", dir_fd=top)
    fd = files.open(b"d", DIRECTORY, dir_fd=top)
    assert Path(files.path_of(fd)).name == "d"
    assert Path(files.path_of(fd)).parent.samefile(tmp_path)
    made(fd, b"x", b"1")
    assert files.lstat(files.beneath(fd, b"x")).st_size == 1
    files.close(fd)


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_that_are_there_and_are_not(top: int) -> None:
    made(top, b"f")
    files.mkdir(b"d", dir_fd=top)
    refused(errno.ENOENT, files.open, b"g", PATH, dir_fd=top)
    refused(errno.ENOENT, files.stat, b"g", dir_fd=top, follow_symlinks=False)
    refused(errno.ENOENT, files.unlink, b"g", dir_fd=top)
    refused(errno.ENOENT, files.rmdir, b"g", dir_fd=top)
    refused(errno.ENOENT, files.rename, b"g", b"h", src_dir_fd=top, dst_dir_fd=top)
    refused(errno.EEXIST, files.open, b"f", NEW, dir_fd=top)
    refused(errno.EEXIST, files.mkdir, b"f", dir_fd=top)
    refused(errno.EEXIST, files.mkdir, b"d", dir_fd=top)
    refused(errno.EEXIST, files.mknod, b"f", stat.S_IFREG | 0o644, 0, dir_fd=top)
    refused(errno.ENOTDIR, files.open, b"f", DIRECTORY, dir_fd=top)
    refused(errno.EISDIR, files.open, b"d", files.O_RDWR, dir_fd=top)
    refused(errno.ENOTDIR, files.rmdir, b"f", dir_fd=top)
    refused(errno.EISDIR, files.unlink, b"d", dir_fd=top)
    refused(errno.ENAMETOOLONG, files.mkdir, b"n" * 256, dir_fd=top)
    assert names(top) == {b"f", b"d"}


def test_names_of_all_kinds(top: int) -> None:
    wanted = {"ümlaut".encode(), "日本".encode(), b"with space", b".hidden", b"n" * 255, b"semi;colon", b"100%"}
    for name in wanted:
        files.mknod(name, stat.S_IFREG | 0o644, 0, dir_fd=top)
    assert names(top) == wanted
    assert {name for name, _ in files.entries(top)} == wanted
    for name in wanted:
        files.unlink(name, dir_fd=top)
    assert names(top) == set()


def test_a_removed_name_is_gone_at_once_and_the_file_lives_on(top: int) -> None:
    fd = make(top, b"f", b"alive")
    files.unlink(b"f", dir_fd=top)
    assert names(top) == set()
    refused(errno.ENOENT, files.stat, b"f", dir_fd=top, follow_symlinks=False)
    assert files.pread(fd, 10, 0) == b"alive"
    assert files.fstat(fd).st_nlink == 0
    made(top, b"f", b"another")
    files.pwrite(fd, b"A", 0)
    files.close(fd)
    assert content(top, b"f") == b"another"


def test_one_of_two_names_goes(top: int) -> None:
    made(top, b"f", b"x")
    fd = files.open(b"f", PATH, dir_fd=top)
    files.link(files.through(fd), b"g", dst_dir_fd=top, follow_symlinks=True)
    assert files.fstat(fd).st_nlink == 2
    refused(errno.EEXIST, files.link, files.through(fd), b"g", dst_dir_fd=top, follow_symlinks=True)
    files.unlink(b"f", dir_fd=top)
    assert files.fstat(fd).st_nlink == 1
    assert names(top) == {b"g"}
    assert content(top, b"g") == b"x"
    files.close(fd)


def test_a_removed_directory_is_gone_at_once(top: int) -> None:
    files.mkdir(b"d", dir_fd=top)
    inner = files.open(b"d", DIRECTORY, dir_fd=top)
    files.mkdir(b"e", dir_fd=inner)
    deep = files.open(b"e", PATH, dir_fd=inner)
    refused(errno.ENOTEMPTY, files.rmdir, b"d", dir_fd=top)
    files.rmdir(b"e", dir_fd=inner)
    assert files.fstat(deep).st_nlink == 0
    files.rmdir(b"d", dir_fd=top)
    assert files.fstat(inner).st_nlink == 0
    assert names(top) == set()
    files.mkdir(b"d", dir_fd=top)
    assert files.stat(b"d", dir_fd=top, follow_symlinks=False).st_nlink > 0
    files.close(deep)
    files.close(inner)


def test_a_rename_replaces(top: int) -> None:
    made(top, b"f", b"new")
    old = make(top, b"g", b"old")
    files.rename(b"f", b"g", src_dir_fd=top, dst_dir_fd=top)
    assert names(top) == {b"g"}
    assert content(top, b"g") == b"new"
    assert files.fstat(old).st_nlink == 0
    assert files.pread(old, 10, 0) == b"old"
    files.close(old)


def test_a_rename_into_another_directory(top: int) -> None:
    files.mkdir(b"d", dir_fd=top)
    inner = files.open(b"d", DIRECTORY, dir_fd=top)
    made(top, b"f", b"x")
    number = files.stat(b"f", dir_fd=top, follow_symlinks=False).st_ino
    files.rename(b"f", b"g", src_dir_fd=top, dst_dir_fd=inner)
    assert names(top) == {b"d"}
    assert names(inner) == {b"g"}
    assert files.stat(b"g", dir_fd=inner, follow_symlinks=False).st_ino == number
    files.close(inner)


def test_a_rename_that_must_not_replace(top: int) -> None:
    made(top, b"f", b"1")
    made(top, b"g", b"2")
    refused(errno.EEXIST, files.renameat2, top, b"f", top, b"g", files.RENAME_NOREPLACE)
    files.renameat2(top, b"f", top, b"h", files.RENAME_NOREPLACE)
    assert names(top) == {b"g", b"h"}


def test_a_rename_of_directories(top: int) -> None:
    for name in (b"a", b"b", b"full"):
        files.mkdir(name, dir_fd=top)
    full = files.open(b"full", DIRECTORY, dir_fd=top)
    made(full, b"x")
    made(top, b"f")
    refused(errno.ENOTEMPTY, files.rename, b"a", b"full", src_dir_fd=top, dst_dir_fd=top)
    refused(errno.ENOTDIR, files.rename, b"a", b"f", src_dir_fd=top, dst_dir_fd=top)
    refused(errno.EISDIR, files.rename, b"f", b"a", src_dir_fd=top, dst_dir_fd=top)
    files.rename(b"a", b"b", src_dir_fd=top, dst_dir_fd=top)
    files.close(full)  # below a directory that moves nothing may be open on Windows
    files.rename(b"full", b"b", src_dir_fd=top, dst_dir_fd=top)
    assert names(top) == {b"b", b"f"}
    full = files.open(b"b", DIRECTORY, dir_fd=top)
    assert names(full) == {b"x"}
    files.close(full)


def test_two_names_of_one_file_stay_two(top: int) -> None:
    made(top, b"f")
    fd = files.open(b"f", PATH, dir_fd=top)
    files.link(files.through(fd), b"g", dst_dir_fd=top, follow_symlinks=True)
    files.rename(b"f", b"g", src_dir_fd=top, dst_dir_fd=top)
    assert names(top) == {b"f", b"g"}
    files.close(fd)


def test_pages_of_a_directory_lose_nothing(top: int) -> None:
    wanted = {f"name-{number:03d}-{'x' * (number % 40)}".encode() for number in range(120)}
    for name in wanted:
        made(top, name)
    seen: list[bytes] = []
    offset = 0
    while page := files.directory_page(top, offset, 1024):
        at = 0
        while at < len(page):
            offset = int.from_bytes(page[at + 8 : at + 16], "little", signed=True)
            length = int.from_bytes(page[at + 16 : at + 18], "little")
            name = page[at + 19 : at + length].split(b"\0", 1)[0]
            if name not in (b".", b".."):
                seen.append(name)
                files.unlink(name, dir_fd=top)  # what is removed on the way displaces nothing
            at += length
    assert sorted(seen) == sorted(wanted)


# -- handles and locks -------------------------------------------------------------------------------------------------


def test_a_file_is_found_by_its_handle(top: int) -> None:
    made(top, b"f", b"x")
    fd = files.open(b"f", PATH, dir_fd=top)
    handle, number = files.handle_of(fd), files.fstat(fd).st_ino
    files.close(fd)
    files.rename(b"f", b"g", src_dir_fd=top, dst_dir_fd=top)
    fd = files.open_handle(top, handle, files.O_PATH)
    assert files.fstat(fd).st_ino == number
    data = files.open(files.through(fd), files.O_RDWR)
    assert files.pread(data, 1, 0) == b"x"
    files.close(data)
    files.close(fd)
    files.unlink(b"g", dir_fd=top)
    refused(errno.ESTALE, files.open_handle, top, handle, files.O_PATH)


def test_a_folder_is_locked_once(top: int, tmp_path: Path) -> None:
    files.mkdir(b"d", dir_fd=top)
    one, other = (files.open(str(tmp_path / "d"), DIRECTORY) for _ in range(2))
    files.try_lock(one)
    with pytest.raises(BlockingIOError):
        files.try_lock(other)
    files.close(one)
    files.try_lock(other)
    files.close(other)


def test_nothing_of_ours_is_left_behind(top: int, tmp_path: Path) -> None:
    files.mkdir(b"d", dir_fd=top)
    inner = files.open(b"d", DIRECTORY, dir_fd=top)
    files.mkdir(b"e", dir_fd=inner)
    deep = files.open(b"e", PATH, dir_fd=inner)
    files.rmdir(b"e", dir_fd=inner)
    files.rmdir(b"d", dir_fd=top)
    files.close(deep)
    files.close(inner)
    files.purge(top)
    assert os.listdir(tmp_path) == []


# -- where the systems differ ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not WINDOWS, reason="Windows has no such files")
def test_what_windows_does_not_have_is_refused(top: int) -> None:
    refused(errno.EOPNOTSUPP, files.symlink, b"target", b"l", dir_fd=top)
    refused(errno.EOPNOTSUPP, files.mknod, b"p", stat.S_IFIFO | 0o644, 0, dir_fd=top)
    made(top, b"f")
    fd = files.open(b"f", PATH, dir_fd=top)
    refused(errno.EOPNOTSUPP, files.setxattr, files.through(fd), b"user.x", b"1")
    refused(errno.EOPNOTSUPP, files.chmod, files.through(fd), 0o600)
    refused(errno.EOPNOTSUPP, files.chown, files.through(fd), 1000, 0)
    files.close(fd)
    for name in (b"a:b", b"a*", b"a?", b'"', b"a\\b", b"a/b", b"<", b"|", b"\x07", b"\xff\xfe", b"..", b""):
        refused(errno.EINVAL, files.mkdir, name, dir_fd=top)
    refused(errno.EINVAL, files.renameat2, top, b"f", top, b"f", files.RENAME_EXCHANGE)
    assert names(top) == {b"f"}


@pytest.mark.skipif(not WINDOWS, reason="here every spelling is a name of its own")
def test_a_name_is_found_as_it_is_spelled(top: int) -> None:
    made(top, b"File", b"x")
    refused(errno.ENOENT, files.stat, b"FILE", dir_fd=top)
    refused(errno.ENOENT, files.unlink, b"FILE", dir_fd=top)
    refused(errno.EEXIST, files.mkdir, b"file", dir_fd=top)
    made(top, b"other")
    refused(errno.EEXIST, files.rename, b"other", b"FILE", src_dir_fd=top, dst_dir_fd=top)
    assert files.spelling(top, b"fILE") == b"File"
    assert files.spelling(top, b"nothing") == b"nothing"
    files.rename(b"File", b"FILE", src_dir_fd=top, dst_dir_fd=top)
    assert names(top) == {b"FILE", b"other"}
    files.respell(top, b"file")
    assert names(top) == {b"file", b"other"}
    assert content(top, b"file") == b"x"


@pytest.mark.skipif(WINDOWS, reason="the functions of os are Unix'")
def test_here_the_port_is_os_itself() -> None:
    for name in ("open", "close", "pread", "pwrite", "fstat", "rename", "unlink", "fsync", "fdatasync", "listdir"):
        assert getattr(files, name) is getattr(os, name)
