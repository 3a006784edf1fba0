"""The replica's side of a verify: compares what the primary tells with what is here, and repairs on request.

Names, attributes and data that are told with SURE or REPAIR are compared in the order of the stream: the primary sent
them under the order lock, so at that place of the stream both sides must be the same, whatever the application does.
Digests without SURE are compared by a thread of their own when there is time, so that a verify never holds up the
application's frames; a difference found that way is only a suspicion, which the primary asks about again.

A repair keeps what it replaces in quarantine first (I6): ranges, or whole entries. Only what differs is touched.

Limits: a repair that cannot be done (quarantine full, directory that other names are bound to) is answered as a
finding that was not repaired. File ids bound to what went to quarantine are forgotten: a live change to one of them
ends the session, and the resync that follows makes everything equal.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mirror_agent.mirror import files, limits, machine, verify_wire, wire
from mirror_agent.mirror.inodes import FIRST_FID, Inode, Root
from mirror_agent.mirror.quarantine import Quarantine, write_all
from mirror_agent.mirror.replica_files import ReplicaFiles, create_entry, set_entry
from mirror_agent.mirror.replica_resync import digests_of
from mirror_agent.mirror.resync import xattrs_of
from mirror_agent.mirror.verify_wire import Finding, Kind
from mirror_agent.mirror.wire import Entry, Frame

log: Final = logging.getLogger(__name__)


Answer = Callable[[Frame, Sequence[Finding]], None]


class _Job(NamedTuple):
    """Digests to compare when there is time; the descriptor is closed afterwards."""

    frame: Frame
    digests: list[bytes]
    fd: int


class VerifyTarget:
    """One per live session, from the first frame of a verify on. `answer` may be called from any thread."""

    def __init__(self, files: ReplicaFiles, new_quarantine: Callable[[], Quarantine], answer: Answer) -> None:
        self._files = files
        self._new_quarantine = new_quarantine
        self._answer = answer
        self._kept: Quarantine | None = None
        self._names: tuple[int, set[bytes]] | None = None
        # Inodes with several names here: the file id that was first found under one of them.
        self._claimed: dict[tuple[int, int], int] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def end(self) -> None:
        """A verify ended: what was kept is on disk."""
        self._claimed.clear()
        self._names = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def close(self) -> None:
        """The session ends."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self.end()

    # -- names -----------------------------------------------------------------------------------------------------

    def names(self, frame: Frame) -> None:
        """All names of a directory; what is here beyond them is extra."""
        if self._names is None or self._names[0] != frame.fid:
            self._names = (frame.fid, set())
        self._names[1].update(verify_wire.parse_names(frame.payload))
        if not frame.flags & wire.FINAL:
            return
        wanted = self._names[1]
        self._names = None
        try:
            findings = self._extra(frame, wanted)
        except OSError as error:
            findings = [Finding(Kind.UNREADABLE, str(error))]
        self._answer(frame, findings)

    def _extra(self, frame: Frame, wanted: set[bytes]) -> list[Finding]:
        inode = self._files.inode(frame.fid)
        if inode.orphan:
            return []
        directory = self._files.path_fd(inode)
        reader = files.open(files.through(directory), files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            extra = sorted(name for name in map(os.fsencode, files.listdir(reader)) if name not in wanted)
        finally:
            files.close(reader)
        repair = bool(frame.flags & wire.REPAIR)
        if repair and extra:
            with _MtimeKept(directory):
                for name in extra:
                    self._displace(inode.root, directory, name)
        return [Finding(Kind.EXTRA, "only the replica has it", name, repaired=repair) for name in extra]

    # -- entries ---------------------------------------------------------------------------------------------------

    def check(self, frame: Frame) -> None:
        """One entry and its attributes."""
        entry = wire.parse_entry(frame.payload)
        try:
            findings = self._check(frame, entry)
        except OSError as error:
            findings = [Finding(Kind.UNREADABLE, str(error))]
        self._answer(frame, findings)

    def _check(self, frame: Frame, entry: Entry) -> list[Finding]:
        repair = bool(frame.flags & wire.REPAIR)
        if frame.offset == 0:
            _, fd = self._files.directory(frame.fid)
            findings = attribute_findings(entry, files.fstat(fd), xattrs_of(fd))
            if repair and findings:
                set_entry(fd, entry)
                return [_repaired(one) for one in findings]
            return findings
        parent, directory = self._files.directory(frame.offset)
        here = self._look(directory, entry.name)
        wrong = self._wrong_inode(frame.fid, entry, directory, here)
        if wrong is not None:
            if repair:
                self._replace(frame.fid, parent, directory, entry, fresh=False)
                wrong = _repaired(wrong)
            return [wrong]
        assert here is not None
        inode = self._files.by_fid.get(frame.fid) or self._files.open_name(
            frame.fid, directory, entry.name, parent.root
        )
        fd = self._files.path_fd(inode)
        findings = attribute_findings(entry, here, xattrs_of(fd))
        if repair and findings:
            findings = self._repair(frame.fid, inode, parent, directory, entry, here, findings)
        elif not inode.is_dir and here.st_nlink > 1:
            self._claimed.setdefault((inode.root.index, inode.ino), frame.fid)
        return findings

    def _look(self, directory: int, name: bytes) -> os.stat_result | None:
        try:
            return files.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _wrong_inode(self, fid: int, entry: Entry, directory: int, here: os.stat_result | None) -> Finding | None:
        """Why what is under the name can never be made equal."""
        if here is None:
            return Finding(Kind.MISSING, "the replica does not have it")
        if stat.S_IFMT(here.st_mode) != stat.S_IFMT(entry.mode):
            return Finding(Kind.TYPE, f"{stat.S_IFMT(here.st_mode):o} for {stat.S_IFMT(entry.mode):o}")
        if stat.S_ISLNK(entry.mode):
            target = files.readlink(entry.name, dir_fd=directory)
            if target != entry.target:
                return Finding(Kind.TARGET, f"{os.fsdecode(target)!r} for {os.fsdecode(entry.target)!r}")
        known = self._files.by_fid.get(fid)
        if known is not None and known.ino != here.st_ino:
            if entry.links > 1:
                return Finding(Kind.LINKS, "another file than under its other names")
            return Finding(Kind.IDENTITY, "not the file that takes the changes")
        if here.st_rdev != entry.rdev:
            return Finding(Kind.DEVICE, f"{here.st_rdev:#x} for {entry.rdev:#x}")
        return None

    def _repair(
        self,
        fid: int,
        inode: Inode,
        parent: Inode,
        directory: int,
        entry: Entry,
        here: os.stat_result,
        findings: list[Finding],
    ) -> list[Finding]:
        if not inode.is_dir and here.st_nlink > entry.links:
            # More names here than there: this one is alone there, or belongs to another file.
            owner = self._claimed.setdefault((inode.root.index, inode.ino), fid)
            if entry.links == 1 or owner != fid:
                self._replace(fid, parent, directory, entry, fresh=True)
                return [_repaired(one) for one in findings]
        fd = self._files.path_fd(inode)
        if inode.is_file:
            self._resize(inode, here.st_size, entry.size)
        set_entry(fd, entry)
        left = {one.kind for one in attribute_findings(entry, files.fstat(fd), xattrs_of(fd))}
        return [one if one.kind in left else _repaired(one) for one in findings]

    def _resize(self, inode: Inode, have: int, wanted: int) -> None:
        if have == wanted:
            return
        fd = self._files.data_fd(inode)
        if wanted < have:
            self._keep(fd, wanted, have - wanted)
        files.ftruncate(fd, wanted)

    def _replace(self, fid: int, parent: Inode, directory: int, entry: Entry, *, fresh: bool) -> None:
        """Puts the right inode under the name; what was there goes to quarantine. `fresh`: never one that is bound."""
        with _MtimeKept(directory):
            if self._look(directory, entry.name) is not None:
                self._displace(parent.root, directory, entry.name)
            known = self._files.by_fid.get(fid)
            if known is not None and (fresh or known.is_dir or entry.links < 2 or not self._alive(known)):
                self._forget(fid, known)
                known = None
            if known is None:
                create_entry(directory, entry)
                known = self._files.open_name(fid, directory, entry.name, parent.root)
                if known.is_file and entry.size:
                    files.ftruncate(self._files.data_fd(known), entry.size)
            else:
                source = files.through(self._files.path_fd(known))
                files.link(source, entry.name, dst_dir_fd=directory, follow_symlinks=True)
        set_entry(self._files.path_fd(known), entry)

    def _alive(self, inode: Inode) -> bool:
        try:
            return files.fstat(self._files.path_fd(inode)).st_nlink > 0
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return False

    def _displace(self, root: Root, directory: int, name: bytes) -> None:
        gone = _inodes_below(directory, name)
        path = os.path.join(files.path_of(directory), os.fsdecode(name))
        self._quarantine().keep_entry(path, directory, name)
        for fid in self._files.by_fid.fids_of(root, gone):
            self._forget(fid, self._files.inode(fid))

    def _forget(self, fid: int, inode: Inode) -> None:
        if fid >= FIRST_FID:
            del self._files.by_fid[fid]
            self._files.descriptors.close(inode)

    # -- content ---------------------------------------------------------------------------------------------------

    def compare(self, frame: Frame) -> None:
        """Digests of blocks: with SURE at this place of the stream, otherwise when there is time."""
        inode = self._files.inode(frame.fid)
        _, digests = wire.parse_sum(frame.payload)
        if inode.orphan:
            self._answer(frame, [])
            return
        job = _Job(frame._replace(payload=memoryview(b"")), digests, files.dup(self._files.data_fd(inode)))
        if frame.flags & wire.SURE:
            self._compare(job)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._compare_all, name="replica-verify", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _compare_all(self) -> None:
        machine.to_background()
        while (job := self._jobs.get()) is not None:
            self._compare(job)

    def _compare(self, job: _Job) -> None:
        offset, length = job.frame.offset, len(job.digests) * limits.BLOCK_BYTES
        try:
            own = digests_of(job.fd, offset, length)
            findings = [
                Finding(Kind.CONTENT, block=index)
                for index, (digest, (mine, _)) in enumerate(zip(job.digests, own, strict=True))
                if digest != mine
            ]
        except OSError as error:
            findings = [Finding(Kind.UNREADABLE, str(error))]
        finally:
            files.close(job.fd)
        self._answer(job.frame, findings)

    def patch(self, frame: Frame) -> None:
        """Data that must be here; each block that differs is kept and replaced. The file's time stays."""
        inode = self._files.inode(frame.fid)
        findings: list[Finding] = []
        if not inode.orphan:
            try:
                findings = self._patch(self._files.data_fd(inode), frame)
            except OSError as error:
                findings = [Finding(Kind.UNREADABLE, str(error))]
        self._answer(frame, findings)

    def _patch(self, fd: int, frame: Frame) -> list[Finding]:
        findings = []
        before = files.fstat(fd)
        for index, at in enumerate(range(0, len(frame.payload), limits.BLOCK_BYTES)):
            data = frame.payload[at : at + limits.BLOCK_BYTES]
            try:
                equal = files.pread(fd, len(data), frame.offset + at) == data
                if not equal:
                    self._keep(fd, frame.offset + at, len(data))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                equal = False  # nothing of it can be kept: the disk does not give it back
            if not equal:
                write_all(fd, data, frame.offset + at)
                findings.append(Finding(Kind.CONTENT, block=index, repaired=True))
        if findings:
            files.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        return findings

    # -- quarantine ------------------------------------------------------------------------------------------------

    def _quarantine(self) -> Quarantine:
        if self._kept is None:
            self._kept = self._new_quarantine()
        return self._kept

    def _keep(self, fd: int, offset: int, length: int) -> None:
        quarantine = self._quarantine()
        quarantine.keep_range(files.path_of(fd), fd, offset, length)
        quarantine.sync()


class _MtimeKept:
    """A directory keeps its modification time while a repair changes the names in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before = files.fstat(fd)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_error: object) -> None:
        files.utime(files.through(self._fd), ns=(self._before.st_atime_ns, self._before.st_mtime_ns))


def _repaired(finding: Finding) -> Finding:
    return Finding(finding.kind, finding.detail, finding.name, finding.block, True)


def _inodes_below(directory: int, name: bytes) -> set[int]:
    """Numbers of the inodes that have no name outside of this entry."""
    st = files.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(st.st_mode):
        return {st.st_ino} if st.st_nlink == 1 else set()
    found = {st.st_ino}
    inner = files.open(name, files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=directory)
    try:
        for child in files.listdir(inner):
            found |= _inodes_below(inner, os.fsencode(child))
    finally:
        files.close(inner)
    return found


def attribute_findings(entry: Entry, here: os.stat_result, xattrs: tuple[tuple[bytes, bytes], ...]) -> list[Finding]:
    """What differs in the attributes of an inode of the right type. Directories: neither size nor links."""
    found = []
    link, directory = stat.S_ISLNK(entry.mode), stat.S_ISDIR(entry.mode)
    if not link and stat.S_IMODE(here.st_mode) != stat.S_IMODE(entry.mode):
        found.append(Finding(Kind.MODE, f"{stat.S_IMODE(here.st_mode):04o} for {stat.S_IMODE(entry.mode):04o}"))
    if (here.st_uid, here.st_gid) != (entry.uid, entry.gid):
        found.append(Finding(Kind.OWNER, f"{here.st_uid}:{here.st_gid} for {entry.uid}:{entry.gid}"))
    if stat.S_ISREG(entry.mode) and here.st_size != entry.size:
        found.append(Finding(Kind.SIZE, f"{here.st_size} for {entry.size} bytes"))
    if not directory and here.st_nlink != entry.links:
        found.append(Finding(Kind.LINKS, f"{here.st_nlink} for {entry.links} names"))
    if xattrs != entry.xattrs:
        mine, theirs = dict(xattrs), dict(entry.xattrs)
        names = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        found.append(Finding(Kind.XATTR, ", ".join(map(os.fsdecode, names))[: verify_wire.MAX_DETAIL_CHARS]))
    if here.st_mtime_ns != entry.mtime_ns:
        found.append(Finding(Kind.TIME, f"{here.st_mtime_ns} for {entry.mtime_ns} ns"))
    return found
