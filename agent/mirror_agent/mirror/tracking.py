"""What the serving node notes about its own changes, so that a later resync can leave out the rest with proof.

Guarantee: whatever the application changed after the newest checkpoint can be told afterwards, after kill -9 or a power
cut at any moment: by change times (`guard` lets no change begin while the clock is behind the checkpoint) together with
the dirty log (`overwriting`, `moving`, `naming` are called before the change, under the order lock of what is changed).
What cannot be noted (disk full, clock behind) makes the node forget its checkpoints first: the next resync is full.

A checkpoint: `rotate` begins a new log and reads the clock; when every order lock was free once since, each change is
either before the CHECKPOINT frame in the stream, or has a change time after that reading and stands in the new log.

Cost while the pair is in step: one flushed record for the first overwrite of a file in a long time (files that stay in
use are carried from log to log), one unflushed record per 64 KiB zone and per changed name; nothing else.

Limits: `NOTED_MAX` zones and names between two checkpoints; beyond it files are compared as a whole. A log of more than
`LOG_BYTES_MAX` ends the proof.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Final

from mirror_agent.mirror.checkpoints import Checkpoint, CheckpointStore
from mirror_agent.mirror.dirty_log import LOG_BYTES_MAX, ZONE_BYTES, DirtyLog, File, LogContent, Note
from mirror_agent.mirror.inodes import Inode
from mirror_agent.mirror.resync_choice import Clock

log: Final = logging.getLogger(__name__)

NOTED_MAX: Final = 256 * 1024
# A change of more zones at once (truncation, allocation) is noted as "everything from here on".
_ZONES_AT_ONCE: Final = 256
# Files overwritten since the last checkpoint that the next log begins with.
_CARRIED_MAX: Final = 4096
# Files known to be noted already; one that is pushed out is noted (and flushed) once more when it is written again.
_REMEMBERED_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class Rotation:
    """A checkpoint being made: the clock read at its beginning, and the log of what comes after."""

    clock: Clock
    log_name: str


class Tracker:
    """One per primary; `close` at the end of the role. Inactive until there is a checkpoint to be later than."""

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._realtime_ns = store.realtime_ns
        self._lock = threading.Lock()
        self._log: DirtyLog | None = None
        self._closed = False
        self._floor_ns = 0
        self._overwritten: dict[File, None] = {}
        self._carried: frozenset[File] = frozenset()
        self._zones: dict[File, set[int]] = {}
        self._tails: dict[File, int] = {}
        self._named: set[File] = set()
        self._noted_count = 0
        self.moved: set[File] = set()

    @property
    def active(self) -> bool:
        return self._log is not None

    def begin(self) -> None:
        """Before the first change of a new role: what it changes is noted in a log of its own."""
        if not self.store.held:
            return
        try:
            dirty = self.store.open_log()
        except OSError as error:
            self.store.forget(f"no dirty log can be opened: {error}")
            return
        with self._lock:
            self._use(dirty)
        self.guard()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._log is not None:
                self._log.close()
                self._log = None

    def _use(self, dirty: DirtyLog) -> None:
        self._log = dirty
        self._floor_ns = max((one.clock.realtime_ns for one in self.store.held), default=0)
        self._zones, self._tails, self._named, self.moved = {}, {}, set(), set()
        self._noted_count = 0

    def stop(self, why: str) -> None:
        """Nothing can be proven any more; durable when this returns. Raises OSError: then nothing may be changed."""
        with self._lock:
            self._stop(why)

    def _stop(self, why: str) -> None:
        self.store.forget(why)
        if self._log is not None:
            self._log.close()
            self._log = None

    # -- before a change -------------------------------------------------------------------------------------------

    def guard(self) -> None:
        """Before any change: its change time must not lie before the checkpoint."""
        if self._log is not None and self._realtime_ns() < self._floor_ns:
            self.stop("the clock was set back behind the last checkpoint")

    def overwriting(self, inode: Inode, offset: int, length: int) -> None:
        """Bytes of a file are about to change (also beyond its end); its order lock is held."""
        current = self._log
        if current is None or inode.fresh is current:
            return
        file = (inode.root.index, inode.ino)
        first, last = offset // ZONE_BYTES, (offset + max(length, 1) - 1) // ZONE_BYTES
        known = self._zones.get(file)
        # A file with a zone was noted as overwritten before.
        if known is not None and all(zone in known for zone in range(first, last + 1)):
            return
        with self._lock:
            self._note_data(file, first, last)

    def _note_data(self, file: File, first: int, last: int) -> None:
        notes: list[tuple[Note, File, int]] = []
        durable = False
        if file not in self._overwritten:
            if file not in self._carried:
                notes.append((Note.OVERWRITTEN, file, 0))
                durable = True
            self._overwritten[file] = None
            if len(self._overwritten) > _REMEMBERED_MAX:
                oldest = next(iter(self._overwritten))
                del self._overwritten[oldest]
                self._zones.pop(oldest, None)
                notes += self._count(oldest, NOTED_MAX)
        if last - first >= _ZONES_AT_ONCE:
            self._tails[file] = min(first, self._tails.get(file, first))
            notes.append((Note.TAIL, file, first))
        elif self._noted_count < NOTED_MAX:
            known = self._zones.setdefault(file, set())
            new = [zone for zone in range(first, last + 1) if zone not in known]
            notes += [(Note.ZONE, file, zone) for zone in new]
            known.update(new)
            notes += self._count(file, len(new))
        self._add(notes, durable=durable)

    def _count(self, file: File, more: int) -> list[tuple[Note, File, int]]:
        self._noted_count += more
        return [(Note.OVERFLOW, file, 0)] if self._noted_count >= NOTED_MAX else []

    def truncating(self, inode: Inode, have: int, wanted: int) -> None:
        """A file's size is about to change; its order lock is held."""
        self.overwriting(inode, min(have, wanted), max(have, wanted) - min(have, wanted))

    def moving(self, inode: Inode) -> None:
        """A directory is about to get another place; both directories' order locks are held."""
        if self._log is None:
            return
        file = (inode.root.index, inode.ino)
        with self._lock:
            self.moved.add(file)
            self._add([(Note.MOVED, file, 0)], durable=True)

    def naming(self, inode: Inode) -> None:
        """A file's names are about to change: it need not be the one of the same name on the replica any more."""
        if self._log is None or inode.fresh is self._log:
            return
        file = (inode.root.index, inode.ino)
        with self._lock:
            if file not in self._named and self._noted_count < NOTED_MAX:
                self._named.add(file)
                self._add([(Note.NAMED, file, 0), *self._count(file, 1)], durable=False)

    def made(self, inode: Inode) -> None:
        """A new file. A power cut that takes back its change time takes back the file: nothing durable is needed."""
        self.naming(inode)
        inode.fresh = self._log

    def _add(self, notes: list[tuple[Note, File, int]], *, durable: bool) -> None:
        """The lock is held. What cannot be noted ends the proof before the change is made."""
        current = self._log
        if current is None or not notes:
            return
        try:
            current.add(notes, durable=durable)
        except OSError as error:
            self._stop(f"the dirty log cannot be written: {error}")
        else:
            if current.size_bytes > LOG_BYTES_MAX:
                self._stop(f"the dirty log has more than {LOG_BYTES_MAX} bytes")

    # -- what was noted --------------------------------------------------------------------------------------------

    def written(self, file: File, before: LogContent) -> tuple[set[int], int | None] | None:
        """Zones written since the base, and the zone from which on everything counts as written; None: not known.
        `before` is what the logs said when the resync began."""
        with self._lock:
            if self._log is None or self._noted_count >= NOTED_MAX or file in self._named or file in before.named:
                return None
            zones = self._zones.get(file, set()) | before.zones.get(file, set())
            tails = [tail for tail in (self._tails.get(file), before.tails.get(file)) if tail is not None]
            return zones, min(tails, default=None)

    def dirty(self) -> tuple[int, int] | None:
        """For the status: files noted as changed since the newest checkpoint (one that was renamed and overwritten
        counts twice), and bytes of the zones overwritten in those that existed then. None without a log.

        Without the lock, which is held while the log is flushed: a status that waits for a disk looks like an engine
        that hangs. The figures may be of two moments."""
        if self._log is None:
            return None
        names = len(self._named)
        return len(self._zones) + names, min(max(0, self._noted_count - names), NOTED_MAX) * ZONE_BYTES

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def rotate(self) -> Rotation:
        """Begins a new log with what is in use; the old checkpoints count on both logs. Raises OSError."""
        if self._closed:
            raise OSError("this node is not primary any more")
        self.guard()
        clock = self.store.clock()
        dirty = self.store.open_log()
        with self._lock:
            carried = list(self._overwritten)[-_CARRIED_MAX:]
            try:
                dirty.add([(Note.OVERWRITTEN, file, 0) for file in carried], durable=True)
            except OSError as error:
                dirty.close()
                self._stop(f"the dirty log cannot be written: {error}")
                raise
            if self._log is not None:
                self._log.close()
            self._carried = frozenset(carried)
            self._overwritten = {}
            self._use(dirty)
            self._floor_ns = max(self._floor_ns, clock.realtime_ns)
        return Rotation(clock, dirty.path.rpartition("/")[2])

    def commit(self, rotation: Rotation, *, stream: str, seq: int, epoch: int, roots: dict[str, str]) -> None:
        """Both nodes have everything up to `seq` on disk: the pair's new checkpoint. Raises OSError."""
        with self._lock:
            if self._log is None or not self._log.path.endswith(rotation.log_name):
                return  # the proof ended meanwhile
            logs = (rotation.log_name,)
            self.store.record(Checkpoint(stream, seq, epoch, rotation.clock, roots, True, logs))
