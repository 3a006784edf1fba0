"""What an application on ext4 may do with names, owners, modes, times and attributes. Each case gets an empty
directory and asserts what POSIX (or Linux) promises; the same cases run on plain ext4, on the mount, and on a pair."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2


def refused(number: int, call: object, *arguments: object, **options: object) -> None:
    """The call fails with exactly this errno."""
    assert callable(call)
    with pytest.raises(OSError) as caught:
        call(*arguments, **options)
    assert caught.value.errno == number, caught.value


def renameat2(old: Path, new: Path, flags: int) -> None:
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def create_exclusive(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.write(fd, b"1")
    os.close(fd)
    refused(errno.EEXIST, os.open, root / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    refused(errno.ENOENT, os.open, root / "g", os.O_WRONLY)
    refused(errno.EISDIR, os.open, root, os.O_WRONLY)
    refused(errno.ENOTDIR, os.open, root / "f" / "x", os.O_RDONLY)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640


def umask_and_modes(root: Path) -> None:
    previous = os.umask(0o027)
    try:
        os.close(os.open(root / "f", os.O_CREAT | os.O_WRONLY, 0o777))
        os.mkdir(root / "d", 0o777)
        os.mkfifo(root / "p", 0o666)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "p").stat().st_mode) == 0o640


def odd_names(root: Path) -> None:
    base = os.fsencode(root)
    names = [
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"a" * 255,
        "\u00e4\u4e2d\U0001f600".encode(),
        b"*?[",
        b"-rf",
        b"...",
        b"\\",
    ]
    for name in names:
        with open(os.path.join(base, name), "wb") as stream:
            stream.write(name)
    assert sorted(os.listdir(base)) == sorted(names)
    refused(errno.ENAMETOOLONG, os.mkdir, os.path.join(base, b"b" * 256))
    os.rename(os.path.join(base, b"\xff\xfe"), os.path.join(base, b"\x01"))
    with open(os.path.join(base, b"\x01"), "rb") as stream:
        assert stream.read() == b"\xff\xfe"


def rename_replaces(root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    number = (root / "a").stat().st_ino
    os.rename(root / "a", root / "b")
    assert (root / "b").read_text() == "a"
    assert (root / "b").stat().st_ino == number
    assert not (root / "a").exists()
    (root / "d").mkdir()
    (root / "e").mkdir()
    (root / "e" / "x").touch()
    refused(errno.ENOTEMPTY, os.rename, root / "d", root / "e")
    refused(errno.ENOTDIR, os.rename, root / "d", root / "b")
    refused(errno.EISDIR, os.rename, root / "b", root / "d")
    refused(errno.EINVAL, os.rename, root / "d", root / "d" / "inside")
    os.rename(root / "e", root / "d")
    assert (root / "d" / "x").exists()


def rename_over_open_file(root: Path) -> None:
    (root / "old").write_text("old content")
    (root / "new").write_text("new content")
    fd = os.open(root / "old", os.O_RDWR)
    os.rename(root / "new", root / "old")
    assert os.pread(fd, 100, 0) == b"old content"
    os.pwrite(fd, b"still", 0)
    os.fsync(fd)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert (root / "old").read_text() == "new content"


def rename_flags(root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").mkdir()
    (root / "b" / "inside").touch()
    with pytest.raises(OSError) as caught:
        renameat2(root / "a", root / "b", NOREPLACE)
    assert caught.value.errno == errno.EEXIST
    renameat2(root / "a", root / "c", NOREPLACE)
    renameat2(root / "c", root / "b", EXCHANGE)
    assert (root / "b").read_text() == "a"
    assert (root / "c" / "inside").exists()
    with pytest.raises(OSError) as caught:
        renameat2(root / "b", root / "absent", EXCHANGE)
    assert caught.value.errno == errno.ENOENT
    (root / "c" / "deep").write_text("deep")
    renameat2(root / "b", root / "c" / "deep", EXCHANGE)
    assert (root / "b").read_text() == "deep"


def rename_across_directories(root: Path) -> None:
    for name in ("one", "two"):
        (root / name / "sub").mkdir(parents=True)
    (root / "one" / "sub" / "f").write_text("f")
    number = (root / "one" / "sub" / "f").stat().st_ino
    os.rename(root / "one" / "sub", root / "two" / "moved")
    os.rename(root / "two" / "moved" / "f", root / "f")
    (root / "two" / "moved" / "later").write_text("later")
    assert (root / "f").stat().st_ino == number
    assert (root / "one").stat().st_nlink == 2
    assert (root / "two").stat().st_nlink == 4


def rename_same_inode(root: Path) -> None:
    (root / "a").write_text("x")
    os.link(root / "a", root / "b")
    os.rename(root / "a", root / "b")
    assert (root / "a").exists()
    assert (root / "b").exists()


def hard_links(root: Path) -> None:
    (root / "d").mkdir()
    (root / "a").write_text("first")
    os.link(root / "a", root / "d" / "b")
    os.link(root / "d" / "b", root / "c")
    assert (root / "c").stat().st_nlink == 3
    os.unlink(root / "a")
    (root / "c").write_text("through c")
    assert (root / "d" / "b").read_text() == "through c"
    assert (root / "c").stat().st_nlink == 2
    refused(errno.EEXIST, os.link, root / "c", root / "d" / "b")
    refused(errno.EPERM, os.link, root / "d", root / "e")


def symbolic_links(root: Path) -> None:
    os.symlink("target", root / "s")
    assert os.readlink(root / "s") == "target"
    refused(errno.ENOENT, os.open, root / "s", os.O_RDONLY)
    refused(errno.ELOOP, os.open, root / "s", os.O_RDONLY | os.O_NOFOLLOW)
    (root / "target").write_text("t")
    assert (root / "s").read_text() == "t"
    os.symlink("x" * 4000, root / "long")
    assert len(os.readlink(root / "long")) == 4000
    os.symlink("loop", root / "loop")
    refused(errno.ELOOP, os.stat, root / "loop")
    os.chown(root / "s", 12, 34, follow_symlinks=False)
    os.utime(root / "s", ns=(1_000_000_001, 2_000_000_002), follow_symlinks=False)
    st = os.lstat(root / "s")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns) == (12, 34, 2_000_000_002)
    os.link(root / "s", root / "s2", follow_symlinks=False)
    assert os.lstat(root / "s2").st_ino == st.st_ino


def unlinked_but_open(root: Path) -> None:
    fd = os.open(root / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"0123456789")
    os.unlink(root / "f")
    os.write(fd, b"abc")
    os.fsync(fd)
    os.ftruncate(fd, 12)
    os.fchmod(fd, 0o600)
    assert os.pread(fd, 100, 0) == b"0123456789ab"
    assert os.fstat(fd).st_nlink == 0
    (root / "f").write_text("another file")
    assert os.fstat(fd).st_size == 12
    os.close(fd)
    assert (root / "f").read_text() == "another file"


def removed_directory_in_use(root: Path) -> None:
    (root / "d").mkdir()
    fd = os.open(root / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(root / "d")
    refused(errno.ENOENT, os.open, "f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    assert os.listdir(fd) == []
    os.close(fd)
    (root / "d").mkdir()
    (root / "d" / "f").touch()
    refused(errno.ENOTEMPTY, os.rmdir, root / "d")
    refused(errno.ENOTDIR, os.rmdir, root / "d" / "f")
    refused(errno.EISDIR, os.unlink, root / "d")


def special_files(root: Path) -> None:
    os.mkfifo(root / "fifo")
    reader = os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(root / "fifo", os.O_WRONLY)
    os.write(writer, b"through the fifo")
    assert os.read(reader, 100) == b"through the fifo"
    os.close(reader)
    os.close(writer)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    os.mknod(root / "block", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    assert (root / "block").stat().st_rdev == os.makedev(259, 70000)
    before = os.getcwd()
    os.chdir(root)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("sock")
            listening.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("sock")
    finally:
        os.chdir(before)


def modes_and_owners(root: Path) -> None:
    path = root / "f"
    path.touch()
    os.chmod(path, 0o6755)
    assert stat.S_IMODE(path.stat().st_mode) == 0o6755
    os.chown(path, 1000, 1001)
    st = path.stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 1001, 0o755)
    os.chown(path, -1, 7)
    assert (path.stat().st_uid, path.stat().st_gid) == (1000, 7)
    (root / "d").mkdir()
    os.chown(root / "d", 5, 77)
    os.chmod(root / "d", 0o2775)
    (root / "d" / "inherits").touch()
    (root / "d" / "sub").mkdir()
    assert (root / "d" / "inherits").stat().st_gid == 77
    assert (root / "d" / "sub").stat().st_gid == 77
    assert (root / "d" / "sub").stat().st_mode & stat.S_ISGID


def as_other_user(root: Path) -> None:
    """What the kernel checks for an unprivileged caller, and whose the new files are."""
    os.chmod(root, 0o777)
    os.chmod(root.parent, 0o755)
    (root / "mine").write_text("secret")
    os.chmod(root / "mine", 0o600)
    (root / "suid").write_text("x")
    os.chown(root / "suid", 4000, 4000)
    os.chmod(root / "suid", 0o6777)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(4001)
            os.setuid(4001)
            refused(errno.EACCES, os.open, "mine", os.O_RDONLY, dir_fd=directory)
            refused(errno.EPERM, os.chmod, "mine", 0o777, dir_fd=directory)
            fd = os.open("theirs", os.O_CREAT | os.O_WRONLY, 0o4711, dir_fd=directory)
            os.write(fd, b"x")
            os.mkdir("their-directory", dir_fd=directory)
            fd = os.open("suid", os.O_WRONLY, dir_fd=directory)
            os.write(fd, b"y")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(directory)
    assert ((root / "theirs").stat().st_uid, (root / "theirs").stat().st_gid) == (4001, 4001)
    assert (root / "their-directory").stat().st_uid == 4001
    assert stat.S_IMODE((root / "suid").stat().st_mode) == 0o777


def explicit_times(root: Path) -> None:
    path = root / "f"
    path.write_text("x")
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    st = path.stat()
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_987_654_321)
    os.utime(path, ns=(-1_000_000_000, -5_000_000_001))
    assert path.stat().st_mtime_ns == -5_000_000_001
    before = (root / "f").stat().st_mtime_ns
    os.utime(path)
    assert path.stat().st_mtime_ns > before
    (root / "d").mkdir()
    os.utime(root / "d", ns=(0, 42))
    assert (root / "d").stat().st_mtime_ns == 42
    (root / "d" / "x").touch()
    assert (root / "d").stat().st_mtime_ns > 42


def extended_attributes(root: Path) -> None:
    path = root / "f"
    path.touch()
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.binary", bytes(range(256)))
    os.setxattr(path, "trusted.t", b"t")
    refused(errno.EEXIST, os.setxattr, path, "user.one", b"2", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, path, "user.absent", b"2", os.XATTR_REPLACE)
    refused(errno.ENODATA, os.getxattr, path, "user.absent")
    os.setxattr(path, "user.one", b"", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b""
    os.removexattr(path, "user.one")
    refused(errno.ENODATA, os.removexattr, path, "user.one")
    assert sorted(os.listxattr(path)) == ["trusted.t", "user.binary"]
    (root / "d").mkdir()
    os.setxattr(root / "d", "user.d", b"directory")
    refused(errno.ENOSPC, os.setxattr, path, "user.big", b"x" * 60000)


def access_lists(root: Path) -> None:
    """A default ACL is inherited, and the umask does not count then (acl(5))."""
    (root / "d").mkdir()
    entries = [
        (0x01, 7, 0xFFFFFFFF),
        (0x02, 6, 1234),
        (0x04, 5, 0xFFFFFFFF),
        (0x10, 7, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
    acl = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + permission.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, permission, who in entries
    )
    os.setxattr(root / "d", "system.posix_acl_default", acl)
    os.setxattr(root / "d", "system.posix_acl_access", acl)
    previous = os.umask(0o077)
    try:
        (root / "d" / "f").touch(0o666)
        (root / "d" / "sub").mkdir()
    finally:
        os.umask(previous)
    assert "system.posix_acl_access" in os.listxattr(root / "d" / "f")
    assert "system.posix_acl_default" in os.listxattr(root / "d" / "sub")
    assert stat.S_IMODE((root / "d" / "f").stat().st_mode) == 0o660


def big_directory(root: Path) -> None:
    """More names than the C library takes at once (32 KiB)."""
    count = 480
    directory = root / "big"
    directory.mkdir()
    for number in range(count):
        os.close(os.open(directory / f"{number:05d}-{'n' * 75}", os.O_CREAT | os.O_WRONLY))
    assert len(os.listdir(directory)) == count
    with os.scandir(directory) as entries:
        for index, entry in enumerate(entries):
            assert entry.is_file()
            if index % 2:
                os.unlink(entry.path)
    assert len(os.listdir(directory)) == count // 2


def deep_tree(root: Path) -> None:
    """Deeper than PATH_MAX, made and renamed through directory descriptors."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    name = "n" * 200
    for _ in range(30):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    leaf = os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(leaf, b"deep")
    os.rename("leaf", "moved", src_dir_fd=fd, dst_dir_fd=fd)
    os.fsync(leaf)
    assert os.stat("moved", dir_fd=fd).st_size == 4
    os.close(leaf)
    os.close(fd)
    os.rename(root / name, root / "short")
    # The comparison of both trees walks by path: bring it below PATH_MAX again.
    fd = os.open(root / "short", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(15):
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    os.rename(name, "other-half", src_dir_fd=fd, dst_dir_fd=top)
    os.close(top)
    os.close(fd)


CASES = [
    create_exclusive,
    umask_and_modes,
    odd_names,
    rename_replaces,
    rename_over_open_file,
    rename_flags,
    rename_across_directories,
    rename_same_inode,
    hard_links,
    symbolic_links,
    unlinked_but_open,
    removed_directory_in_use,
    special_files,
    modes_and_owners,
    as_other_user,
    explicit_times,
    extended_attributes,
    access_lists,
    big_directory,
    deep_tree,
]
