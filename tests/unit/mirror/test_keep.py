"""What a resync leaves out must look on the replica as it did; what the stream already follows may have moved on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mirror_agent.mirror import wire
from mirror_agent.mirror.dirty_log import LogContent
from mirror_agent.mirror.inodes import Descriptors, Root
from mirror_agent.mirror.quarantine import Quarantine
from mirror_agent.mirror.replica_files import ApplyError, ReplicaFiles
from mirror_agent.mirror.replica_resync import ResyncTarget
from mirror_agent.mirror.resync_report import Known
from mirror_agent.mirror.wire import Frame, Op, Unchanged

LEFT, FILE, RIGHT = 20, 21, 22


@dataclass
class Replica:
    """Two directories, one file with a name in each, and a resync that has listed the first one."""

    root: Root
    files: ReplicaFiles
    target: ResyncTarget

    def apply(self, op: Op, fid: int, offset: int, data: bytes, flags: int = 0) -> None:
        frame = Frame(op, flags, 1, 0, fid, offset, memoryview(data), 0)
        {
            Op.BIND: self.bind,
            Op.WRITE: self.files.write,
            Op.DIR_BEGIN: self.target.dir_begin,
            Op.KEEP: self.target.keep,
            Op.DIR_END: self.target.dir_end,
        }[op](frame)

    def bind(self, frame: Frame) -> None:
        self.files.bind(frame)
        self.target.bound(frame)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    home = tmp_path / "data"
    for name in ("left", "right"):
        (home / name).mkdir(parents=True)
    (home / "left" / "f").write_bytes(b"as it was")
    os.link(home / "left" / "f", home / "right" / "f")
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    st = os.fstat(fd)
    root = Root(0, str(home), True, fd, st.st_dev)
    files = ReplicaFiles([root], Descriptors(64))
    known = Known((home / "left" / "f").stat().st_ctime_ns + 1, LogContent())
    quarantine = Quarantine(str(tmp_path / "quarantine"), "test")
    target = ResyncTarget(files, [root], quarantine, "0123456789abcdef", known)
    here = Replica(root, files, target)
    here.apply(Op.DIR_BEGIN, root.fid, 0, b"")
    here.apply(Op.BIND, LEFT, root.fid, b"left", wire.DIRECTORY)
    here.apply(Op.BIND, RIGHT, root.fid, b"right", wire.DIRECTORY)
    here.apply(Op.DIR_END, root.fid, 0, wire.settled_payload(0, st.st_mtime_ns))
    here.apply(Op.DIR_BEGIN, LEFT, 0, b"")
    here.apply(Op.BIND, FILE, LEFT, b"f")
    here.apply(Op.DIR_END, LEFT, 0, wire.settled_payload(0, (home / "left").stat().st_mtime_ns))
    yield here
    target.abandon()
    files.close()
    os.close(fd)


def keep(path: Path, size: int) -> bytes:
    st = path.stat()
    return wire.keep_payload([Unchanged(b"f", st.st_mode, size, st.st_mtime_ns)])


def test_a_file_the_stream_follows_under_another_name_may_have_moved_on(replica: Replica) -> None:
    """The primary looked at right/f, a call wrote through left/f, and then KEEP was sent."""
    path = Path(replica.root.path) / "right" / "f"
    payload = keep(path, len(b"as it was"))
    replica.apply(Op.WRITE, FILE, 0, b"written since, and longer")
    replica.apply(Op.DIR_BEGIN, RIGHT, 0, b"")
    replica.apply(Op.KEEP, RIGHT, 0, payload)
    replica.apply(Op.DIR_END, RIGHT, 0, wire.settled_payload(0, 1))
    assert path.read_bytes() == b"written since, and longer"


def test_a_file_nobody_follows_must_be_what_it_was(replica: Replica) -> None:
    path = Path(replica.root.path) / "right" / "f"
    path.unlink()
    path.write_bytes(b"as it was")
    payload = keep(path, len(b"as it was"))
    path.write_bytes(b"something else")
    replica.apply(Op.DIR_BEGIN, RIGHT, 0, b"")
    with pytest.raises(ApplyError, match="not what it was"):
        replica.apply(Op.KEEP, RIGHT, 0, payload)
