"""A resync carried out by the simulated replica, as the production code decides.

`run` yields after every entry, so that the world can cut it off anywhere. What the replica would refuse (an entry that
was left out although it is another one) is a `Surprise`: a hole in the proof, also where the next full comparison would
mend it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mirror_agent.mirror.dirty_log import ZONE_BYTES
from mirror_agent.mirror.handshake import PlanMessage
from mirror_agent.mirror.resync_choice import DISTRUSTED, Choice, Gap, choose, floor_ns
from mirror_agent.mirror.resync_plan import Plan, Progress
from mirror_agent.mirror.resync_proof import Place, Proof
from mirror_agent.mirror.resync_report import Known, frames_of

from tests.sim_resync.disk import ROOT
from tests.sim_resync.node import SimNode

_FID = 1


class Surprise(AssertionError):
    """An entry was to be left out, or taken for the replica's own, and is not what it was at the base."""


class Refused(Exception):
    """The replica is careful: what was left out was touched by this very resync. Everything is compared next time."""


@dataclass
class Count:
    """What the resyncs of a schedule came to."""

    skipped: int = 0
    compared: int = 0
    by_ranges: int = 0


class NoPace:
    def spent(self, size_bytes: int) -> None:
        """The application does nothing meanwhile."""


class Attempt:
    """One resync of `replica` from `primary`, which serves."""

    def __init__(self, primary: SimNode, replica: SimNode, count: Count, *, shortcut_failed: bool = False) -> None:
        assert primary.tracker is not None, "only a serving node fills its replica"
        self._primary, self._replica, self._count = primary, replica, count
        self._tracker = primary.tracker
        self.choice: Choice = choose(primary.prove(), replica.prove(), shortcut_failed=shortcut_failed)
        if self.choice.rule in DISTRUSTED and primary.store.held:
            primary.tracker.stop(self.choice.sentence)
        known = _known(primary, self.choice)
        self._theirs = _known(replica, self.choice)
        message = PlanMessage(self.choice.rule, self.choice.base)
        self._proof = Proof(Plan(message, known, primary.tracker, NoPace(), Progress(self.choice.rule)))
        self._bound: dict[int, int] = {}
        self._compared: set[int] = set()
        self._changed_before: set[int] = set()

    def run(self) -> Iterator[None]:
        replica = self._replica
        replica.marked_in = replica.marked_in or replica.clock().boot
        if self._theirs is not None:
            for frame in frames_of(0, replica.disk.listings(), self._theirs, lambda: None):
                self._proof.report.take(_FID, memoryview(frame))
            self._changed_before = {
                at for at, meta in replica.disk.meta.items() if self._theirs.changed(0, meta.stat())
            }
        top = self._proof.top(_FID, 0)
        self._attributes(ROOT, ROOT)
        yield from self._directory(top, ROOT, ROOT)
        replica.disk.sync()
        replica.marked_in = None

    def _directory(self, place: Place, ours: int, theirs: int) -> Iterator[None]:
        primary, replica = self._primary.disk, self._replica.disk
        for name in set(replica.names(theirs)) - set(primary.names(ours)):
            self._drop(theirs, name)
        below: list[tuple[Place, int, int]] = []
        for name, serial in primary.names(ours).items():
            self._replica.store.guard()
            meta = primary.meta[serial]
            if meta.directory:
                found = self._proof.directory(place, name, meta.stat())
                other = self._same(theirs, name, folder=True)
                if found.told:
                    if other is None:
                        raise Surprise(f"directory {found.place.path!r} is no directory on the replica")
                elif other is None:
                    other = self._fresh(theirs, name, serial)
                else:
                    self._attributes(serial, other)
                below.append((found.place, serial, other))
            elif self._proof.skips(place, name, meta.stat(), bound=serial in self._bound and meta.links > 1):
                self._keep(place, theirs, name, serial)
            else:
                self._file(place, theirs, name, serial)
            yield
        for inner, serial, other in below:
            yield from self._directory(inner, serial, other)
        self._attributes(ours, theirs)

    def _keep(self, place: Place, theirs: int, name: bytes, serial: int) -> None:
        self._count.skipped += 1
        assert self._theirs is not None, "only a resync with a base leaves something out"
        other = self._same(theirs, name, folder=False)
        path = place.below(name)
        if other is None:
            raise Surprise(f"{path!r} was left out; the replica has no such file")
        mine, other_meta = self._primary.disk.meta[serial], self._replica.disk.meta[other]
        differs = (mine.mode, mine.mtime_ns, mine.zones) != (other_meta.mode, other_meta.mtime_ns, other_meta.zones)
        if self._bound.get(serial, other) != other:
            raise Surprise(f"{path!r} was left out; on the replica it is another file than under its first name")
        if serial not in self._bound:
            if differs or other in self._changed_before:
                raise Surprise(f"{path!r} was left out: {mine} here, {other_meta} there")
            if self._theirs.changed(0, other_meta.stat()):
                raise Refused(f"{path!r} had another name, which this resync has taken away")
        if mine.links > 1:
            self._bound[serial] = other

    def _file(self, place: Place, theirs: int, name: bytes, serial: int) -> None:
        """ENSURE, then the comparison of the content."""
        primary, replica = self._primary.disk, self._replica.disk
        bound = self._bound.get(serial)
        other = self._same(theirs, name, folder=False)
        if bound is None and (other is None or other in self._bound.values()):
            other = self._fresh(theirs, name, serial)
        elif bound is not None and other != bound:
            if name in replica.names(theirs):
                self._drop(theirs, name)
            replica.link(bound, theirs, name)
            other = bound
        assert other is not None
        self._bound[serial] = other
        self._attributes(serial, other)
        if serial in self._compared:
            return
        self._compared.add(serial)
        meta = primary.meta[serial]
        plan = self._proof.plan
        whole = not self._proof.file(place, name) or plan.made_since(meta.birth_ns)
        spans = None if whole else plan.written(0, meta.stat())
        self._count.compared += 1
        self._count.by_ranges += spans is not None
        have, want = replica.content(other), primary.content(serial)
        for zone in _zones(spans, meta.zones):
            if have[zone] != want[zone]:
                replica.write(other, zone, [want[zone]], mtime_ns=meta.mtime_ns)

    def _attributes(self, ours: int, theirs: int) -> None:
        mine, other = self._primary.disk.meta[ours], self._replica.disk.meta[theirs]
        if not mine.directory and mine.zones != other.zones:
            self._replica.disk.truncate(theirs, mine.zones)
        if (mine.mode, mine.mtime_ns) != (
            self._replica.disk.meta[theirs].mode,
            self._replica.disk.meta[theirs].mtime_ns,
        ):
            self._replica.disk.set(theirs, mode=mine.mode, mtime_ns=mine.mtime_ns)

    def _same(self, directory: int, name: bytes, *, folder: bool) -> int | None:
        serial = self._replica.disk.names(directory).get(name)
        return serial if serial is not None and self._replica.disk.meta[serial].directory is folder else None

    def _fresh(self, directory: int, name: bytes, serial: int) -> int:
        if name in self._replica.disk.names(directory):
            self._drop(directory, name)
        mine = self._primary.disk.meta[serial]
        made = self._replica.disk.make(directory, name, folder=mine.directory, mode=mine.mode)
        self._attributes(serial, made)
        return made

    def _drop(self, directory: int, name: bytes) -> None:
        """To quarantine, with everything below."""
        disk = self._replica.disk
        serial = disk.names(directory)[name]
        if disk.meta[serial].directory:
            for inner in list(disk.names(serial)):
                self._drop(serial, inner)
        disk.remove(directory, name)


def _known(node: SimNode, choice: Choice) -> Known | None:
    """As both engines take it from their checkpoints."""
    if choice.base is None:
        return None
    held = {one.point: one for one in node.prove()}[choice.base]
    base = node.store.find(choice.base)
    assert base is not None
    assert held.gap in (Gap.NONE, Gap.TORN)
    return Known(floor_ns(base.clock), node.store.changes_since(choice.base))


def _zones(spans: list[tuple[int, int]] | None, zones: int) -> Iterator[int]:
    if spans is None:
        yield from range(zones)
        return
    for offset, length in spans:
        yield from range(offset // ZONE_BYTES, min(zones, -(-(offset + length) // ZONE_BYTES)))


def differences(one: SimNode, other: SimNode) -> list[str]:
    """Where two trees are not the same, in words."""
    mine, theirs = dict(one.disk.paths()), dict(other.disk.paths())
    found = []
    for path in sorted({*mine, *theirs}):
        here = _told(one, mine[path]) if path in mine else {"there": False}
        there = _told(other, theirs[path]) if path in theirs else {"there": False}
        found += [
            f"{path!r}: {what} {here.get(what)} on {one.name}, {there.get(what)} on {other.name}"
            for what in sorted({*here, *there})
            if here.get(what) != there.get(what)
        ]
    return found


def _told(node: SimNode, serial: int) -> dict[str, object]:
    meta = node.disk.meta[serial]
    both: dict[str, object] = {"there": True, "directory": meta.directory, "mode": meta.mode, "mtime": meta.mtime_ns}
    return both if meta.directory else {**both, "links": meta.links, "content": node.disk.content(serial)}
