"""The replica's side of a resync: makes its tree the primary's, keeping in quarantine whatever it gives up.

Frames of the resync and live frames come in one order, so the last one is right. Until a file's content was compared
it is *pending*: before a live frame changes or removes it, what was there goes to quarantine as well (whether it
differed or not cannot be known any more).

What the primary moves from a directory this side has to one it does not have yet waits in a stash directory inside
the root, under its fid, until the resync reaches its new directory; so does a file whose last name here goes while it
has another there. What is left in the stash at the end goes to quarantine.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from typing import Final

from mirror_agent.mirror import files, limits, wire
from mirror_agent.mirror.inodes import FIRST_FID, Inode, Root
from mirror_agent.mirror.quarantine import Quarantine, write_all
from mirror_agent.mirror.replica_files import (
    ApplyError,
    Preserving,
    ReplicaFiles,
    create_entry,
    set_entry,
)
from mirror_agent.mirror.resync_report import Known
from mirror_agent.mirror.wire import Entry, Frame

log: Final = logging.getLogger(__name__)

_PATH_FLAGS: Final = files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC
STASH_PREFIX: Final = b".mirrorplane-stash-"


def block_digest(data: bytes | memoryview) -> bytes:
    """The digest that decides whether two blocks are equal; strong, because a match is never looked at again."""
    return hashlib.blake2b(data, digest_size=limits.DIGEST_BYTES).digest()


_HOLE_DIGEST: Final = block_digest(bytes(limits.BLOCK_BYTES))


def digests_of(fd: int, offset: int, length: int) -> Iterator[tuple[bytes, int]]:
    """Digest and size of each block of a file's range; holes are not read. The last block may be short or empty."""
    block = limits.BLOCK_BYTES
    data_from = -1
    for at in range(offset, offset + length, block):
        if data_from < at:
            try:
                data_from = files.lseek(fd, at, files.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data from here to the end of the file
                    raise
                data_from = files.fstat(fd).st_size
        if data_from >= at + block:
            yield _HOLE_DIGEST, block
        else:
            data = files.pread(fd, block, at)
            yield block_digest(data), len(data)


class ResyncTarget(Preserving):
    """One resync on the replica, between RESYNC and LIVE. `known`: its own changes since the base, if there is one."""

    def __init__(
        self, files: ReplicaFiles, roots: list[Root], quarantine: Quarantine, stream_id: str, known: Known | None
    ) -> None:
        self._known = known
        self._files = files
        self._roots = roots
        self._quarantine = quarantine
        self._stash_name = STASH_PREFIX + stream_id[:8].encode()
        self._stashes: dict[int, int] = {}
        self._stashed: set[int] = set()
        # Inodes of this side that had several names when a fid was bound to them: they keep that fid's identity even
        # after the primary released the fid, or two files of the primary could end up as one here.
        self._claimed: dict[tuple[int, int], int] = {}
        self._pending: dict[int, set[int]] = {}
        # Directories that may still hold names the primary does not have.
        self._unlisted: set[int] = set()
        # The directory being listed, and the names that were in it at the beginning and were not sent yet.
        self._listing: tuple[int, set[bytes]] | None = None
        # Files that were made, or take the place of another, in this resync.
        self._made: set[int] = set()
        files.owners = {}

    # -- names -----------------------------------------------------------------------------------------------------

    def dir_begin(self, frame: Frame) -> None:
        # An empty directory may be removed (under its parent's lock) while it is listed: then nothing is left to do.
        names: set[bytes] = set()
        if not self._files.inode(frame.fid).orphan:
            names = self._names(self._files.directory(frame.fid)[1])
            if frame.fid < FIRST_FID:
                names.discard(self._stash_name)
        self._listing = (frame.fid, names)

    def _names(self, directory: int) -> set[bytes]:
        reader = files.open(files.through(directory), files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            return {os.fsencode(name) for name in files.listdir(reader)}
        finally:
            files.close(reader)

    def keep(self, frame: Frame) -> None:
        """Entries that did not change on either side. What does not look so ends this resync; the next one compares
        everything. An inode the primary already stands for under another name follows the stream: it may have changed
        between the primary's look at it and this frame."""
        if self._known is None or self._listing is None or self._listing[0] != frame.fid:
            raise ApplyError("KEEP outside of a listing, or of a resync that leaves something out")
        parent, directory = self._files.directory(frame.fid)
        for one in wire.parse_keep(frame.payload):
            st = self._look(directory, one.name)
            if st is not None and self._owner(parent.root, st) is not None:
                self._listing[1].discard(one.name)
                continue
            if (
                st is None
                or (st.st_mode, st.st_mtime_ns) != (one.mode, one.mtime_ns)
                or (stat.S_ISREG(st.st_mode) and st.st_size != one.size)
                or self._known.changed(parent.root.index, st)
            ):
                path = self._path(directory, one.name)
                raise ApplyError(f"{path} is not what it was at the checkpoint, although nothing noted a change")
            self._listing[1].discard(one.name)

    def bound(self, frame: Frame) -> None:
        """A fid was bound to what is here under its name; a directory may hold names the primary does not have."""
        if self._listing is not None and self._listing[0] == frame.offset:
            self._listing[1].discard(wire.name_of(frame.payload))
        if frame.flags & wire.DIRECTORY:
            if not self._files.inode(frame.fid).is_dir:
                raise ApplyError(f"file id {frame.fid} is no directory here, although nothing noted a change")
            self._unlisted.add(frame.fid)

    def ensure(self, frame: Frame) -> None:
        entry = wire.parse_entry(frame.payload)
        if frame.offset == 0:
            inode, fd = self._files.directory(frame.fid)
            set_entry(fd, entry)
            return
        parent, directory = self._files.directory(frame.offset)
        if self._listing is not None and self._listing[0] == parent.fid:
            self._listing[1].discard(entry.name)
        bound = self._files.by_fid.get(frame.fid)
        files.respell(directory, entry.name)
        existing = self._look(directory, entry.name)
        if bound is not None:
            self._place(bound, parent, directory, entry.name, existing)
            inode = bound
        else:
            inode = self._bind(frame.fid, parent, directory, entry, existing)
        set_entry(self._files.path_fd(inode), entry)

    def _look(self, directory: int, name: bytes) -> os.stat_result | None:
        try:
            return files.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _place(self, inode: Inode, parent: Inode, directory: int, name: bytes, existing: os.stat_result | None) -> None:
        """A known inode also belongs under this name."""
        if existing is not None:
            if existing.st_ino == inode.ino:
                return
            self._displace(parent, directory, name)
        if inode.fid in self._stashed:
            stash = self._stashes[parent.root.index]
            self._files.moves(parent.root, stash, str(inode.fid).encode())
            files.rename(str(inode.fid).encode(), name, src_dir_fd=stash, dst_dir_fd=directory)
            self._stashed.discard(inode.fid)
        elif inode.is_dir:
            raise ApplyError(f"directory file id {inode.fid} is asked for in two places")
        else:
            fd = self._files.path_fd(inode)
            files.link(files.through(fd), name, dst_dir_fd=directory, follow_symlinks=True)

    def _bind(self, fid: int, parent: Inode, directory: int, entry: Entry, existing: os.stat_result | None) -> Inode:
        """Takes what is under this name, if it can be made equal, or makes it new."""
        if existing is not None and not self._usable(entry, parent.root, directory, existing):
            self._displace(parent, directory, entry.name)
            existing = None
        if existing is None:
            create_entry(directory, entry)
            self._made.add(fid)
        inode = self._files.open_name(fid, directory, entry.name, parent.root)
        if existing is not None and not inode.is_dir and existing.st_nlink > 1:
            self._claimed[(parent.root.index, inode.ino)] = fid
        if inode.is_dir and existing is not None:
            self._unlisted.add(fid)
        if inode.is_file:
            self._resize(inode, 0 if existing is None else existing.st_size, entry.size)
        return inode

    def _resize(self, inode: Inode, have: int, wanted: int) -> None:
        if have:
            self._pending[inode.fid] = set()
        if wanted == have:
            return
        fd = self._files.data_fd(inode)
        if wanted < have:
            self.before_change(inode, fd, wanted, have - wanted)
        files.ftruncate(fd, wanted)

    def _usable(self, entry: Entry, root: Root, directory: int, existing: os.stat_result) -> bool:
        if stat.S_IFMT(entry.mode) != stat.S_IFMT(existing.st_mode) or existing.st_dev != root.device:
            return False
        if (root.index, existing.st_ino) in self._claimed:
            return False  # several names here, and one of them is another inode of the primary's already
        if self._owner(root, existing) is not None:
            return False  # the primary has it under another name by now
        if stat.S_ISLNK(entry.mode):
            return files.readlink(entry.name, dir_fd=directory) == entry.target
        return existing.st_rdev == entry.rdev

    def _owner(self, root: Root, found: os.stat_result) -> int | None:
        """The fid of an inode the primary knows and has not removed, as far as it said."""
        assert self._files.owners is not None
        return self._files.owners.get((root.index, found.st_ino))

    def _displace(self, parent: Inode, directory: int, name: bytes) -> None:
        """This name is not the primary's. What it stands for may be: then it waits for its name in the stash."""
        found = files.stat(name, dir_fd=directory, follow_symlinks=False)
        owner = self._owner(parent.root, found)
        if owner is None:
            self._keep_away(directory, name)
        elif owner in self._stashed:
            files.unlink(name, dir_fd=directory)
        else:
            self._put_into_stash(owner, parent, directory, name)

    def _keep_away(self, directory: int, name: bytes) -> None:
        self._quarantine.keep_entry(self._path(directory, name), directory, name)

    def _path(self, directory: int, name: bytes) -> str:
        return os.path.join(files.path_of(directory), os.fsdecode(name))

    def dir_end(self, frame: Frame) -> None:
        """Everything that was in the directory at DIR_BEGIN and was not asked for goes to quarantine."""
        if self._listing is None or self._listing[0] != frame.fid:
            raise ApplyError(f"DIR_END for file id {frame.fid} without its DIR_BEGIN")
        left = self._listing[1]
        self._listing = None
        self._unlisted.discard(frame.fid)
        if self._files.inode(frame.fid).orphan:
            return
        parent, directory = self._files.directory(frame.fid)
        for name in left:
            if self._look(directory, name) is not None:
                self._displace(parent, directory, name)
        self._set_mtime(directory, wire.parse_settled(frame.payload)[1])

    def _set_mtime(self, fd: int, mtime_ns: int) -> None:
        st = files.fstat(fd)
        if st.st_mtime_ns != mtime_ns:
            files.utime(files.through(fd), ns=(st.st_atime_ns, mtime_ns))

    def stash(self, frame: Frame) -> None:
        parent, directory = self._files.directory(frame.offset)
        name = wire.name_of(frame.payload)
        if frame.fid not in self._files.by_fid:
            self._files.open_name(frame.fid, directory, name, parent.root)
        if frame.fid in self._stashed:
            # A second link of the same file: one is enough to find it again.
            files.unlink(name, dir_fd=directory)
            return
        self._put_into_stash(frame.fid, parent, directory, name)

    def _put_into_stash(self, fid: int, parent: Inode, directory: int, name: bytes) -> None:
        files.rename(name, str(fid).encode(), src_dir_fd=directory, dst_dir_fd=self._stash(parent.root))
        self._stashed.add(fid)

    def _stash(self, root: Root) -> int:
        if root.index not in self._stashes:
            before = files.fstat(root.fd).st_mtime_ns
            files.mkdir(self._stash_name, 0o700, dir_fd=root.fd)
            self._set_mtime(root.fd, before)
            flags = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
            self._stashes[root.index] = files.open(self._stash_name, flags, dir_fd=root.fd)
        return self._stashes[root.index]

    # -- content ---------------------------------------------------------------------------------------------------

    def compare(self, frame: Frame) -> list[int]:
        """Indexes of the blocks that differ; what they hold now is in quarantine when this returns."""
        inode = self._files.inode(frame.fid)
        _, digests = wire.parse_sum(frame.payload)
        if inode.orphan:
            return []
        if frame.flags & wire.WRITTEN_ONLY and (self._known is None or frame.fid in self._made):
            raise ApplyError(f"file id {frame.fid} is new here: it must be compared as a whole")
        fd = self._files.data_fd(inode)
        block = limits.BLOCK_BYTES
        different = []
        own = digests_of(fd, frame.offset, len(digests) * block)
        for index, (digest, (own_digest, size)) in enumerate(zip(digests, own, strict=True)):
            if own_digest != digest:
                different.append(index)
                if size:
                    self._keep(inode, fd, frame.offset + index * block, size)
        self._quarantine.sync()
        if frame.flags & wire.FINAL:
            self._pending.pop(frame.fid, None)
        return different

    def fill(self, frame: Frame) -> None:
        inode = self._files.inode(frame.fid)
        if not inode.orphan:
            write_all(self._files.data_fd(inode), frame.payload, frame.offset)

    def settled(self, frame: Frame) -> None:
        inode = self._files.inode(frame.fid)
        if not inode.orphan:
            self._set_mtime(self._files.path_fd(inode), wire.parse_settled(frame.payload)[1])

    # -- before live frames ----------------------------------------------------------------------------------------

    def before_change(self, inode: Inode, fd: int, offset: int, length: int) -> None:
        self._keep(inode, fd, offset, length)
        self._quarantine.sync()

    def _keep(self, inode: Inode, fd: int, offset: int, length: int) -> None:
        """In whole blocks, each once; durable after the quarantine's next `sync`."""
        kept = self._pending.get(inode.fid)
        if kept is None or length <= 0:
            return
        block = limits.BLOCK_BYTES
        for index in range(offset // block, (offset + length - 1) // block + 1):
            if index not in kept:
                kept.add(index)
                path = files.path_of(fd)
                self._quarantine.keep_range(path, fd, index * block, block)

    def before_remove(self, inode: Inode | None, parent: Inode, name: bytes, *, last: bool) -> bool:
        """Content that was not compared is kept; an inode that lives on under a name this side does not have yet
        waits in the stash for it."""
        if inode is None or inode.orphan:
            return False
        directory = self._files.path_fd(parent)
        if last:
            if inode.fid not in self._pending and inode.fid not in self._unlisted:
                return False
            self._keep_away(directory, name)
            return True
        # Also if it has other names here: those may be names the primary has not.
        if inode.fid in self._stashed:
            return False
        self._put_into_stash(inode.fid, parent, directory, name)
        return True

    def finish(self) -> None:
        """The whole tree is here: what is left in the stash belongs to nobody."""
        for index, stash in self._stashes.items():
            root = self._roots[index]
            for name in map(os.fsencode, files.listdir(stash)):
                st = files.stat(name, dir_fd=stash, follow_symlinks=False)
                if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
                    files.unlink(name, dir_fd=stash)  # every name it should have, it has
                else:
                    self._quarantine.keep_entry(f"{root.path} (moved while resynchronising)", stash, name)
            files.close(stash)
            before = files.fstat(root.fd).st_mtime_ns
            files.rmdir(self._stash_name, dir_fd=root.fd)
            self._set_mtime(root.fd, before)
        self._stashes.clear()
        self._files.owners = None
        self._quarantine.close()

    def abandon(self) -> None:
        """The session ended before its resync did; the marker stays, the next resync starts anew."""
        for stash in self._stashes.values():
            files.close(stash)
        self._stashes.clear()
        self._quarantine.close()
