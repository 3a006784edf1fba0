"""Inodes the kernel remembers: objects only while they are used, records otherwise, and nothing lost in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirror_agent.mirror.inode_table import FidMap, InodeTable, Marks
from mirror_agent.mirror.inodes import Descriptors, Inode, Root

OPEN_MAX = 16
FILES = 300
_PATH = os.O_PATH | os.O_NOFOLLOW


class Kept:
    """Remembers what it was asked to keep."""

    def __init__(self) -> None:
        self.fids: set[int] = set()

    def guard(self, fid: int, fd: int) -> None:
        self.fids.add(fid)

    def release(self, fid: int) -> None:
        self.fids.discard(fid)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Root(0, str(tmp_path), True, fd, os.fstat(fd).st_dev)
    finally:
        os.close(fd)


@pytest.fixture
def table(root: Root) -> Iterator[InodeTable]:
    descriptors = Descriptors(OPEN_MAX)
    made = InodeTable(root, descriptors, marks=Marks(0), guard=Kept())
    yield made
    descriptors.close_all(iter(made.awake_inodes()))
    made.close()


def admit(table: InodeTable, number: int) -> int:
    """As a look-up does; the node id. No object is held."""
    path = os.path.join(table.root.path, f"f{number}")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    fd = os.open(path, _PATH)
    return table.admit(fd, os.fstat(fd)).fid


def test_idle_inodes_are_records_and_wake_up_as_they_were(table: InodeTable) -> None:
    stream = object()
    ids = [admit(table, number) for number in range(FILES)]
    table.inode(ids[0]).bound = stream
    table.inode(ids[0]).synced = stream
    table.inode(ids[0]).flush_asked()
    assert len(table.awake_inodes()) <= OPEN_MAX + 4
    assert table.slots.used == FILES
    assert len(set(ids)) == FILES
    for number, nodeid in enumerate(ids):
        call = table.descriptors.new_call()
        inode = table.inode(nodeid)
        reached = os.readlink(f"/proc/self/fd/{table.descriptors.path_fd(inode, call)}")
        assert reached.endswith(f"/f{number}")
        assert (inode.bound is stream, inode.synced is stream, inode.flushed) == (number == 0,) * 3
        table.descriptors.end_call(call)


def test_an_inode_goes_with_its_last_reference(table: InodeTable) -> None:
    nodeid = admit(table, 0)
    assert admit(table, 0) == nodeid
    inode = table.inode(nodeid)
    table.hold(inode)
    assert table.forgotten_by_kernel(nodeid, 2) is None
    assert table.forget(inode, 1)
    with pytest.raises(OSError) as raised:
        table.inode(nodeid)
    assert raised.value.errno == errno.ESTALE
    assert admit(table, 0) != nodeid


def test_an_inode_without_a_link_keeps_its_descriptor_and_frees_its_number(table: InodeTable) -> None:
    nodeid = admit(table, 0)
    call = table.descriptors.new_call()
    inode = table.inode(nodeid)
    inode.flush_asked()
    ino, fd = inode.ino, table.descriptors.path_fd(inode, call)
    os.unlink(os.path.join(table.root.path, "f0"))
    table.orphaned(inode, fd)
    del inode
    table.descriptors.end_call(call)
    for number in range(1, FILES):
        admit(table, number)
    assert (found := table.by_ino(ino)) is None or found.fid != nodeid
    assert os.fstat(table.inode(nodeid).fd).st_nlink == 0
    assert table.inode(nodeid).flushed
    assert [inode.fid for inode in table.orphans()] == [nodeid]


def test_a_mark_of_another_life_counts_as_none() -> None:
    stream = object()
    before, after = Marks(0), Marks(1)
    mark = before.number(stream)
    assert before.stream(mark) is stream
    assert after.stream(mark) is None
    assert after.number(stream) != mark
    assert before.number(None) == 0


def test_the_file_ids_of_a_replica_are_packed_as_well(root: Root) -> None:
    descriptors = Descriptors(OPEN_MAX)
    fids = FidMap([root])
    for number in range(FILES):
        path = os.path.join(root.path, f"f{number}")
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        fd = os.open(path, _PATH)
        st = os.fstat(fd)
        inode = Inode(root, 1 << 32 | number + 16, st.st_ino, 0o100000, fd)
        fids[inode.fid] = inode
        descriptors.adopt(inode)
        del inode
    assert len(list(fids.values())) <= OPEN_MAX + 4
    for number in range(FILES):
        found = fids.get(1 << 32 | number + 16)
        assert found is not None
        assert found.ino == os.stat(os.path.join(root.path, f"f{number}")).st_ino
        assert found.is_file
    del found
    assert 5 not in fids
    del fids[1 << 32 | 16]
    assert fids.get(1 << 32 | 16) is None
    descriptors.close_all(fids.values())
    fids.clear()
