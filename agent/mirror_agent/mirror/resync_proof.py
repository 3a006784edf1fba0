"""Which entries of a resync are left out, and which files and directories are the replica's of the same name.

Pure: an entry of this node, what this node knows of its own changes (`Plan`) and what the replica has told of its own
(`Report`) go in. The walk (`resync.py`) asks here for every name, and so does the simulator of resyncs
(`tests/sim_resync`), which cuts the power of both nodes between any two steps and compares the copies afterwards.

Proven identity: an entry stands for the replica's entry of the same name if all directories above are proven, the name
was there at the base on both sides, and neither side renamed a directory on the way since.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from mirror_agent.mirror.resync_choice import may_skip
from mirror_agent.mirror.resync_plan import Plan
from mirror_agent.mirror.resync_report import NOTHING, DirectoryReport, Report, missing


class Place(NamedTuple):
    """A directory that is being listed. `fid` and `root`: the id and the number of its root; `path`: below it, b"" is
    the root itself."""

    fid: int
    root: int
    path: bytes
    proven: bool

    def below(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class Below(NamedTuple):
    """What follows for a directory below the one that is listed. `told`: its names may be bound as they are, its own
    attributes did not change."""

    place: Place
    told: bool


class Proof:
    """Of one attempt; the report may still grow until the walk begins."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report()

    def top(self, fid: int, root: int) -> Place:
        return Place(fid, root, b"", self.plan.known is not None)

    def _of(self, place: Place) -> DirectoryReport:
        return self.report.of(place.fid, place.path) if place.proven else NOTHING

    def skips(self, place: Place, name: bytes, st: os.stat_result, *, bound: bool) -> bool:
        """A name that is no directory and need not be compared. `bound`: the replica knows the file already, by another
        name, which may lead to a new copy of it there: this name has to lead to the same one."""
        report = self._of(place)
        return not bound and may_skip(
            changed_here=self.plan.changed(place.root, st),
            changed_there=name in report.files or name in report.folders or missing(report, name),
            identity_proven=place.proven,
        )

    def file(self, place: Place, name: bytes) -> bool:
        """Whether the replica has this very file under the name: then the ranges written since are all there is."""
        report = self._of(place)
        return place.proven and not missing(report, name) and name not in report.folders

    def directory(self, place: Place, name: bytes, st: os.stat_result) -> Below:
        """A directory below: the replica's of the same name if it was there at the base and none of the two was renamed
        since; one that was made since holds nothing older than itself."""
        report = self._of(place)
        path = place.below(name)
        proven = (
            place.proven
            and not missing(report, name)
            and name not in report.files
            and not self.plan.renamed(place.root, st)
            and not self.report.of(place.fid, path).renamed
        )
        changed = self.plan.changed(place.root, st) or name in report.folders
        return Below(Place(place.fid, place.root, path, proven), proven and not changed)
