"""What a node remembers about its copy: one generation record and the `inconsistent` marker, both fsynced.

The record says for which epoch this node last worked, in which role, with which directories, and, if the copy is known
to be identical to its peer's after a clean hand-over, the point (stream, sequence number) at which both stood. Two
nodes with equal points hold the same tree. The point is erased before the first change afterwards.

The marker exists from before the first byte of a resync until the barrier that ends it; with it a node is never
promoted. A record that cannot be read (torn, foreign cluster) is treated as absent: the copy is then resynchronised.
"""

from __future__ import annotations

import json
import logging
import threading
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from mirror_agent.mirror import files
from mirror_agent.mirror.checkpoints import CheckpointStore
from mirror_agent.mirror.verify_record import VerifyStore

log: Final = logging.getLogger(__name__)

RECORD: Final = "generation.json"
MARKER: Final = "inconsistent"


@dataclass(frozen=True)
class Point:
    """A position of one stream; equal points on two nodes mean equal trees."""

    stream: str
    seq: int


@dataclass(frozen=True)
class Generation:
    cluster_id: str
    epoch: int = 0
    role: str = "none"
    point: Point | None = None
    roots: dict[str, str] = field(default_factory=dict)


def _fsync_directory(path: Path) -> None:
    fd = files.open(path, files.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
    try:
        files.fsync(fd)
    finally:
        files.close(fd)


class StateStore:
    """The files in one state directory; the current generation is `generation`."""

    def __init__(self, directory: str, cluster_id: str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self.generation = self._load(cluster_id)
        self.checkpoints = CheckpointStore(directory, cluster_id)
        # Kept in memory as well: the status is asked for often, also while the disk is stuck.
        self._marked_in = self._boot_of_marker()
        self.verified = VerifyStore(self._directory)

    def _load(self, cluster_id: str) -> Generation:
        blank = Generation(cluster_id)
        try:
            document = json.loads((self._directory / RECORD).read_bytes())
            body = document["generation"]
            if document["crc32"] != _checksum(body):
                raise ValueError("its checksum is wrong")
            point = body.pop("point")
            loaded = Generation(**body, point=Point(**point) if point else None)
        except FileNotFoundError:
            return blank
        except (ValueError, KeyError, TypeError) as error:
            log.error("%s is not usable (%s); this copy will be resynchronised", self._directory / RECORD, error)
            return blank
        if loaded.cluster_id != cluster_id:
            log.error("%s belongs to cluster %s; ignored", self._directory / RECORD, loaded.cluster_id)
            return blank
        return loaded

    def record(self, *, epoch: int, role: str, point: Point | None) -> None:
        """Durable at return; nothing is written when nothing changes."""
        with self._lock:
            self._write(replace(self.generation, epoch=epoch, role=role, point=point))

    def record_roots(self, roots: dict[str, str]) -> None:
        """Which directories are replicated. Others than before cannot stand where the recorded point says."""
        with self._lock:
            point = self.generation.point if roots == self.generation.roots else None
            self._write(replace(self.generation, roots=roots, point=point))

    def _write(self, wanted: Generation) -> None:
        if wanted == self.generation:
            return
        body = asdict(wanted)
        temporary = self._directory / f"{RECORD}.new"
        with open(temporary, "wb") as stream:
            stream.write(json.dumps({"generation": body, "crc32": _checksum(body)}).encode())
            stream.flush()
            files.fsync(stream.fileno())
        temporary.replace(self._directory / RECORD)
        _fsync_directory(self._directory)
        self.generation = wanted

    def record_epoch(self, epoch: int) -> None:
        with self._lock:
            self._write(replace(self.generation, epoch=epoch))

    @property
    def marker_path(self) -> str:
        return str(self._directory / MARKER)

    @property
    def inconsistent(self) -> bool:
        """A resync of this copy has not ended."""
        return self._marked_in is not None

    def torn(self, boot: str) -> bool:
        """Whether a resync of this copy began before this boot and none has ended since."""
        return self._marked_in is not None and self._marked_in != boot

    def mark_inconsistent(self, why: str, boot: str) -> None:
        """`boot`: the one it is marked in; that of a mark which is there already stays."""
        self._marked_in = boot if self._marked_in is None else self._marked_in
        temporary = self._directory / f"{MARKER}.new"
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(f"{self._marked_in}\n{why}\n")
            stream.flush()
            files.fsync(stream.fileno())
        temporary.replace(self._directory / MARKER)
        _fsync_directory(self._directory)

    def clear_inconsistent(self) -> None:
        (self._directory / MARKER).unlink(missing_ok=True)
        _fsync_directory(self._directory)
        self._marked_in = None

    def _boot_of_marker(self) -> str | None:
        """The first line of the mark; whatever else stands there is of another boot."""
        try:
            return (self._directory / MARKER).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        except FileNotFoundError:
            return None


def _checksum(body: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
