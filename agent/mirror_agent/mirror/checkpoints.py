"""The checkpoints a node holds: moments at which both copies were the same and on disk, and the proof of what followed.

One checksummed file, replaced atomically and fsynced (`checkpoints.json`). A node keeps the newest checkpoint and the
one before: the replica records one first, so after a crash in between the older one is the pair's last common one.

Each names its place in the stream, this node's clock when it was taken, its directories then, whether this node served
since, and the dirty logs that were written since. A record that cannot be read counts as none: everything is compared
then. `forget` needs no free space, so that a full disk cannot keep a false proof.

A replica notes one thing itself, the directories it gives another place (`moving`): what is below keeps its change
time, and the primary, which has noted the move as well, may have lost the move itself by the time the two are compared.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mirror_agent.mirror import files, machine
from mirror_agent.mirror.dirty_log import DirtyLog, File, LogContent, Note, read_log
from mirror_agent.mirror.resync_choice import Clock, Gap, Held, clock_gap

log: Final = logging.getLogger(__name__)

RECORD: Final = "checkpoints.json"
_LOG_NAME: Final = "dirty-{:06d}.log"
_LOGS_MAX: Final = 64
_HELD_MAX: Final = 2


def read_clock() -> Clock:
    """This node's clocks now."""
    return Clock(machine.boot_id(), time.time_ns(), machine.boottime_ns())


@dataclass(frozen=True)
class Checkpoint:
    """Both copies were the same at frame `seq` of `stream`. `logs`: dirty logs since, oldest first."""

    stream: str
    seq: int
    epoch: int
    clock: Clock
    roots: dict[str, str] = field(default_factory=dict)
    served: bool = False
    logs: tuple[str, ...] = ()

    @property
    def point(self) -> tuple[str, int]:
        return self.stream, self.seq


class CheckpointStore:
    """The file in one state directory. `held` is newest first; every method that changes it is durable at return.

    `clock` and `realtime_ns` read this node's clocks; all change times of its files must come from the same ones.
    """

    def __init__(
        self,
        directory: str,
        cluster_id: str,
        *,
        clock: Callable[[], Clock] = read_clock,
        realtime_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.clock = clock
        self.realtime_ns = realtime_ns
        self._directory = Path(directory)
        self._cluster_id = cluster_id
        self._lock = threading.RLock()
        self._read_before: dict[str, tuple[int, LogContent]] = {}
        self._moves: DirtyLog | None = None
        self._last_log = 0
        self.held: tuple[Checkpoint, ...] = self._load()
        self._newest_ns = self._newest()

    def _load(self) -> tuple[Checkpoint, ...]:
        try:
            document = json.loads((self._directory / RECORD).read_bytes())
            body = document["checkpoints"]
            if document["crc32"] != _checksum(body) or body["cluster"] != self._cluster_id:
                raise ValueError("its checksum or its cluster is wrong")
            return tuple(
                Checkpoint(**{**entry, "clock": Clock(**entry["clock"]), "logs": tuple(entry["logs"])})
                for entry in body["held"]
            )
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            log.error("%s is not usable (%s); the next resync compares everything", self._directory / RECORD, error)
            return ()

    def _newest(self) -> int:
        return max((one.clock.realtime_ns for one in self.held), default=0)

    def guard(self) -> None:
        """Before any change of a replica: its change time must not lie before the checkpoint."""
        if self.realtime_ns() < self._newest_ns:
            self.forget("the clock was set back behind the last checkpoint")

    # -- changing --------------------------------------------------------------------------------------------------

    def record(self, checkpoint: Checkpoint) -> None:
        """The pair's new checkpoint; the one before stays as long as the peer may still hold that one only."""
        with self._lock:
            self._write((checkpoint, *self.held)[:_HELD_MAX])
            self._drop_logs()

    def rotate(self) -> int:
        """On a replica, when a checkpoint begins: what moves from now on is noted in a log of its own. Returns what
        `record_replica` needs."""
        with self._lock:
            self.end_moves()
            return self._last_number()

    def record_replica(self, checkpoint: Checkpoint, rotated: int) -> None:
        """As `record`, with the logs begun since `rotate`."""
        with self._lock:
            names = tuple(sorted(path.name for path in self._logs() if _number(path) > rotated))
            self.record(replace(checkpoint, logs=names))

    def moving(self, file: File) -> None:
        """On a replica: a directory is about to get another place. Durable at return."""
        with self._lock:
            if not self.held:
                return
            try:
                if self._moves is None:
                    self._moves = self.open_log(served=False)
                self._moves.add([(Note.MOVED, file, 0)], durable=True)
            except OSError as error:
                self.forget(f"a moved directory cannot be noted: {error}")

    def end_moves(self) -> None:
        """The role of the replica ends, or a checkpoint begins."""
        with self._lock:
            if self._moves is not None:
                self._moves.close()
                self._moves = None

    def forget(self, why: str) -> None:
        """What happened since cannot be proven any more. Works on a full disk."""
        with self._lock:
            if not self.held:
                return
            log.warning("mirror: checkpoints are forgotten: %s; the next resync compares everything", why)
            self.end_moves()
            (self._directory / RECORD).unlink(missing_ok=True)
            self._sync_directory()
            self.held = ()
            self._newest_ns = 0
            self._drop_logs()

    def open_log(self, *, served: bool = True) -> DirtyLog:
        """A new log for what this node changes from now on, named by every checkpoint held before it is used."""
        with self._lock:
            if served:
                self.end_moves()
            self._last_log = self._last_number() + 1
            name = _LOG_NAME.format(self._last_log)
            dirty = DirtyLog.create(str(self._directory / name), self.clock().boot)
            self._sync_directory()
            held = tuple(replace(one, served=one.served or served, logs=(*one.logs, name)) for one in self.held)
            if any(len(one.logs) > _LOGS_MAX for one in held):
                self.forget(f"more than {_LOGS_MAX} dirty logs since the last checkpoint")
            elif held:
                self._write(held)
            return dirty

    def _write(self, held: tuple[Checkpoint, ...]) -> None:
        body: dict[str, Any] = {"cluster": self._cluster_id, "held": [asdict(one) for one in held]}
        body = json.loads(json.dumps(body))
        temporary = self._directory / f"{RECORD}.new"
        with open(temporary, "wb") as stream:
            stream.write(json.dumps({"checkpoints": body, "crc32": _checksum(body)}).encode())
            stream.flush()
            files.fsync(stream.fileno())
        temporary.replace(self._directory / RECORD)
        self._sync_directory()
        self.held = held
        self._newest_ns = self._newest()

    def _sync_directory(self) -> None:
        fd = files.open(self._directory, files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            files.fsync(fd)
        finally:
            files.close(fd)

    def _drop_logs(self) -> None:
        wanted = {name for one in self.held for name in one.logs}
        for path in self._logs():
            if path.name not in wanted:
                self._read_before.pop(path.name, None)
                path.unlink(missing_ok=True)

    def _logs(self) -> list[Path]:
        return list(self._directory.glob("dirty-*.log"))

    def _last_number(self) -> int:
        """Of the logs there are, and of those this process has made: a number is not used twice."""
        return max([self._last_log, *map(_number, self._logs())])

    # -- proving ---------------------------------------------------------------------------------------------------

    def prove(
        self, roots: dict[str, str], now: Clock, *, file_system_good: bool, torn: bool = False
    ) -> tuple[Held, ...]:
        """What this node can say about each checkpoint now. `torn`: a loss of power cut off a resync of this copy."""
        return tuple(self._prove(one, roots, now, file_system_good=file_system_good, torn=torn) for one in self.held)

    def _prove(self, one: Checkpoint, roots: dict[str, str], now: Clock, *, file_system_good: bool, torn: bool) -> Held:
        gap = clock_gap(one.clock, now) or (Gap.TORN if torn else Gap.NONE)
        exact = True
        if not file_system_good:
            gap = Gap.FILE_SYSTEM
        elif one.roots != roots:
            gap = Gap.DISK
        for name in one.logs:
            content = self._read(name)
            if content.broken:
                log.error("mirror: %s cannot be used: %s", name, content.broken)
                gap = Gap.LOG if gap in (Gap.NONE, Gap.TORN) else gap
            exact = exact and content.exact(now.boot)
        return Held(one.stream, one.seq, gap, one.served, exact and one.clock.boot == now.boot)

    def changes_since(self, point: tuple[str, int]) -> LogContent:
        """What the dirty logs since a checkpoint say, all together. Raises KeyError if it is not held."""
        for one in self.held:
            if one.point == point:
                return LogContent.united([self._read(name) for name in one.logs])
        raise KeyError(f"checkpoint {point} is not held")

    def _read(self, name: str) -> LogContent:
        """Logs only grow: one of the same length says the same."""
        path = self._directory / name
        size = path.stat().st_size if path.exists() else -1
        known = self._read_before.get(name)
        if known is None or known[0] != size:
            known = self._read_before[name] = (size, read_log(str(path), self.clock().boot))
        return known[1]

    def find(self, point: tuple[str, int]) -> Checkpoint | None:
        return next((one for one in self.held if one.point == point), None)


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _checksum(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
