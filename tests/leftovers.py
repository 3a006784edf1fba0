"""What a test run starts ends with it, however it ends.

Problem: pytest takes away what tests made when they pass, fail or are interrupted (Ctrl-C); SIGTERM and SIGHUP end it
without that, and nothing can be done in a process that gets SIGKILL. Applications of the tests run in sessions of
their own and outlive it: once, sixteen shells forked for hours.
Guarantee: SIGTERM and SIGHUP end a run as Ctrl-C does. Every process of a run is in one control group, which nobody
leaves by forking; a second process outside waits for the run's end, leaves the rest GRACE_S to end in order (labs take
themselves down, see own_lab.py), and kills what is left then. A run that ends well says what it has left behind.
Limits: needs root and cgroup2; without them only the signals. The VMs of a lab are in the lab's own group. Mounts and
network namespaces of a run that was killed stay (`ip netns list`); they do nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

from lab.fabric.cgroups import Group, ProcessesRemain, describe, hierarchy

GRACE_S: Final = 60.0
KILL_S: Final = 10.0
PREFIX: Final = "mirrorplane-tests-"
# multiprocessing's own helper ends by itself when the run has ended.
ENDS_BY_ITSELF: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def end_as_interrupted() -> None:
    """SIGTERM and SIGHUP become what pytest, asyncio and the fixtures handle: SIGINT."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell gives that to what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def watch_over_this_run(grace_s: float = GRACE_S) -> Group | None:
    """This process and all it starts from now on are in a group that is emptied after its end; None: not possible."""
    if os.geteuid() != 0:
        return None
    try:
        group = Group(hierarchy() / f"{PREFIX}{os.getpid()}")
        group.create()
        # Started before this process joins, so it stays outside.
        _start_watching([str(os.getpid()), str(group.path), str(grace_s)])
        group.join()
    except OSError:
        return None
    return group


def _start_watching(arguments: list[str]) -> None:
    """In a session of its own and not waited for: it is this process that is waited for."""
    command = [sys.executable, "-m", "tests.leftovers", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, standard) for standard in (0, 1, 2)]
    try:
        os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)
    finally:
        os.close(null)


def left_behind(group: Group) -> str:
    """Processes that are still there beside this one, "" for none."""
    others = [describe([pid]) for pid in group.pids() if pid != os.getpid()]
    # What is gone by the time it is described has no number in front.
    words = [word for word in others if word[0].isdigit() and not any(known in word for known in ENDS_BY_ITSELF)]
    return "; ".join(words)


def empty_after(pid: int, group: Group, grace_s: float) -> None:
    """When the process has ended: what remains in the group ends, in order or not; the group goes."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        select.select([descriptor], [], [])
    try:
        group.wait_empty(grace_s)
    except ProcessesRemain:
        group.kill()
        group.wait_empty(KILL_S)
    group.remove()


if __name__ == "__main__":
    empty_after(int(sys.argv[1]), Group(Path(sys.argv[2])), float(sys.argv[3]))
