"""Is the judge awake? Bugs put on purpose into the code that proves what a resync may leave out, one at a time.

`python -m tests.sim_resync.mutants [NAME ...] [--limit N]` hunts them from seed 0 on and writes the seed that found
each to `mutants.json`; exit 1 if one was not found. The tests try them on these seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from mirror_agent.mirror import checkpoints, resync_proof, resync_report
from mirror_agent.mirror.checkpoints import Checkpoint, CheckpointStore
from mirror_agent.mirror.dirty_log import DirtyLog, LogContent
from mirror_agent.mirror.resync_choice import Choice, Clock, Gap, Held, choose
from mirror_agent.mirror.resync_proof import Proof
from mirror_agent.mirror.tracking import Rotation, Tracker

from tests.sim_resync import walk
from tests.sim_resync.world import run_cut_off, run_seed

KNOWN: Final = Path(__file__).with_name("mutants.json")
LIMIT: Final = 2000


def _nothing(*_: object, **__: object) -> None:
    return None


def _without_served(mine: tuple[Held, ...], peers: tuple[Held, ...], **why: bool) -> Choice:
    return choose(mine, tuple(replace(one, served=False) for one in peers), **why)


def _without_torn(mine: tuple[Held, ...], peers: tuple[Held, ...], **why: bool) -> Choice:
    return choose(mine, tuple(replace(one, gap=Gap.NONE) if one.gap is Gap.TORN else one for one in peers), **why)


def _unflushed(self: DirtyLog, notes: list[Any], *, durable: bool) -> None:
    _add(self, notes, durable=False)


_add = DirtyLog.add
_rotate = Tracker.rotate
_commit = Tracker.commit
_open_log = CheckpointStore.open_log
_prove = CheckpointStore._prove
_skips = Proof.skips


def _rotate_without_carried(self: Tracker) -> Rotation:
    with patch.object(DirtyLog, "add", _nothing):
        return _rotate(self)


def _commit_with_a_late_clock(self: Tracker, rotation: Rotation, **place: Any) -> None:
    _commit(self, replace(rotation, clock=self.store.clock()), **place)


def _open_without_naming(self: CheckpointStore, *, served: bool = True) -> DirtyLog:
    with patch.object(CheckpointStore, "_write", _nothing):
        return _open_log(self, served=served)


def _prove_any_disk(self: CheckpointStore, one: Checkpoint, roots: dict[str, str], now: Clock, **facts: bool) -> Held:
    return _prove(self, replace(one, roots=roots), now=now, roots=roots, **facts)


def _skip_second_names(self: Proof, *given: Any, bound: bool) -> bool:
    return _skips(self, *given, bound=False)


def _exact_in_any_boot(self: LogContent, boot: str) -> bool:
    return not self.broken and not self.overflow


Patch = Callable[[], Any]

MUTANTS: Final[Mapping[str, tuple[Patch, ...]]] = {
    "no-margin-for-the-tick": (lambda: patch.object(walk, "floor_ns", lambda then: then.realtime_ns),),
    "an-overwritten-file-is-not-noted": (lambda: patch.object(Tracker, "overwriting", _nothing),),
    "noted-and-not-flushed": (lambda: patch.object(DirtyLog, "add", _unflushed),),
    "a-moved-directory-is-not-noted": (lambda: patch.object(Tracker, "moving", _nothing),),
    "a-directory-moved-by-the-replica-is-not-noted": (lambda: patch.object(CheckpointStore, "moving", _nothing),),
    "a-changed-name-is-not-noted": (lambda: patch.object(Tracker, "naming", _nothing),),
    "a-clock-set-back-is-not-noticed": (
        lambda: patch.object(Tracker, "guard", _nothing),
        lambda: patch.object(CheckpointStore, "guard", _nothing),
        lambda: patch.object(checkpoints, "clock_gap", lambda then, now: Gap.NONE),
    ),
    "ranges-although-the-replica-served": (lambda: patch.object(walk, "choose", _without_served),),
    "unflushed-notes-of-another-boot-count": (
        lambda: patch.object(LogContent, "exact", _exact_in_any_boot),
        lambda: patch.object(walk, "choose", lambda mine, peers, **why: choose(_all_exact(mine), peers, **why)),
    ),
    "what-the-replica-changed-is-not-asked-for": (lambda: patch.object(resync_report.Report, "take", _nothing),),
    "a-torn-copy-counts-as-whole": (lambda: patch.object(walk, "choose", _without_torn),),
    "a-second-name-is-left-out": (lambda: patch.object(Proof, "skips", _skip_second_names),),
    "files-in-use-are-not-carried-on": (lambda: patch.object(Tracker, "rotate", _rotate_without_carried),),
    "a-new-log-belongs-to-no-checkpoint": (lambda: patch.object(CheckpointStore, "open_log", _open_without_naming),),
    "the-clock-of-the-end-of-a-checkpoint": (lambda: patch.object(Tracker, "commit", _commit_with_a_late_clock),),
    "any-disk-will-do": (lambda: patch.object(CheckpointStore, "_prove", _prove_any_disk),),
    "a-renamed-directory-is-the-same": (lambda: patch.object(resync_report.Known, "renamed", lambda *_: False),),
    "a-missing-name-is-there": (lambda: patch.object(resync_proof, "missing", lambda *_: False),),
}


# Schedules of one situation that the random ones reach too seldom.
DIRECTED: Final[Mapping[str, Callable[[int], object]]] = {"a-torn-copy-counts-as-whole": run_cut_off}


def _all_exact(held: tuple[Held, ...]) -> tuple[Held, ...]:
    return tuple(replace(one, exact=True) for one in held)


@contextmanager
def infected(name: str) -> Iterator[None]:
    """With one bug; KeyError for a name that is not there."""
    with ExitStack() as stack:
        for begin in MUTANTS[name]:
            stack.enter_context(begin())
        yield


def finds(name: str, seed: int) -> str:
    """What the judge says of a seed with the bug in; empty when it says nothing."""
    try:
        with infected(name):
            DIRECTED.get(name, run_seed)(seed)
    except AssertionError as error:
        return str(error) or "an assertion"
    return ""


def hunt(name: str, limit: int) -> int | None:
    """The first seed that finds it and holds without it."""
    for seed in range(limit):
        if finds(name, seed):
            DIRECTED.get(name, run_seed)(seed)
            return seed
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim_resync.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MUTANTS])
    parser.add_argument("--limit", type=int, default=LIMIT)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    missed = 0
    for name in options.names or MUTANTS:
        seed = hunt(name, options.limit)
        missed += seed is None
        known[name] = seed
        print(f"{name:48} {'NOT FOUND' if seed is None else f'seed {seed}'}", flush=True)
        KNOWN.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
