"""Which processes descend from a process, and ending all of them for certain.

Problem: a daemon forks twice and calls setsid, so neither its parent nor its session names its origin; and process
ids are used again, so a number read a moment ago may belong to somebody else.
Guarantee: below a subreaper every orphan stays a descendant, so walking parents finds all of them. A signal goes
through a pidfd, and only if the start time still is the one seen. A walk over /proc is no snapshot: processes that are
born and gone within milliseconds are seen by none. "None left" is therefore said by the subreaper's own list of
children (`KillWalk.step`); on a kernel without that list, after two empty walks.
Limits: a process that the kernel holds (state D) dies when it is let go; the walk reads only /proc/PID/stat, which
never waits for another process's memory, as `cmdline` and `environ` can. Standard library only: the reaper imports it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

EMPTY_WALKS: Final = 2
# Looks at the list of children in one step; each is some microseconds and gives what forks less time than it needs.
LOOKS: Final = 64


@dataclass(frozen=True)
class ProcessStat:
    """One line of /proc/PID/stat; `start_ticks` tells two users of one number apart."""

    pid: int
    parent: int
    state: str
    threads: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """A dead leader whose threads run on is alive; a zombie that only waits to be reaped is not."""
        return self.state not in ("Z", "X") or self.threads > 1


def read_stat(pid: int) -> ProcessStat | None:
    """The process, or None when there is none (any more)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            line = stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may itself hold blanks and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return ProcessStat(pid, int(fields[1]), fields[0].decode(), int(fields[17]), int(fields[19]))


def all_processes() -> dict[int, ProcessStat]:
    table: dict[int, ProcessStat] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                table[stat.pid] = stat
    return table


def descendants(root: int, table: Mapping[int, ProcessStat] | None = None) -> list[ProcessStat]:
    """Every process below `root`, zombies included, `root` itself not."""
    table = all_processes() if table is None else table
    children: dict[int, list[ProcessStat]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat)
    found: list[ProcessStat] = []
    waiting = [root]
    seen = {root}
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.pid not in seen:
                seen.add(child.pid)
                found.append(child)
                waiting.append(child.pid)
    return found


def living_descendants(root: int) -> list[ProcessStat]:
    return [stat for stat in descendants(root) if stat.alive]


def send_signal(target: ProcessStat, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone."""
    try:
        descriptor = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return False
    try:
        now = read_stat(target.pid)
        if now is None or now.start_ticks != target.start_ticks:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def signal_all(targets: Iterable[ProcessStat], number: signal.Signals) -> int:
    return sum(send_signal(target, number) for target in targets)


def children_of(pid: int) -> tuple[int, ...] | None:
    """Direct children, zombies included, in the order in which they came; None on a kernel that does not tell
    (CONFIG_PROC_CHILDREN) and for a process that is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as stream:
            return tuple(int(word) for word in stream.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return None


class KillWalk:
    """Repeat `step` until `done`: each step kills what it finds below `root`, a subreaper of one thread."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._empty = 0
        self.done = False
        self.killed: set[int] = set()
        self.left: tuple[int, ...] = ()

    def step(self) -> None:
        """Kill, and find out whether anything is left.

        The highest living ancestor of whatever lives below the root is a child of the root, for the children of the
        dead become its own. Nothing leaves the list of children while the root does not reap (it is stopped, or it is
        who walks). So if all in the list are dead, and the list is the same when it is read again, nothing lives: what
        lives at that second moment would be in it, and would have been seen alive.
        """
        living = living_descendants(self._root)
        self._kill(living)
        dead: tuple[int, ...] | None = None
        for _ in range(LOOKS):
            children = children_of(self._root)
            if children is None:
                self._empty = 0 if living else self._empty + 1
                self.done = self._empty >= EMPTY_WALKS
                return
            if children == dead:
                self.done, self.left = True, ()
                return
            found = [stat for stat in map(read_stat, children) if stat is not None and stat.alive]
            self._kill(found)
            dead = None if found else children
        self.done = False

    def _kill(self, living: Sequence[ProcessStat]) -> None:
        self.left = tuple(stat.pid for stat in living)
        for stat in living:
            if send_signal(stat, signal.SIGKILL):
                self.killed.add(stat.pid)


def tagged_processes(variable: str, value: str) -> list[ProcessStat]:
    """Processes whose environment holds `variable=value`. May wait for a process's memory: not for an event loop."""
    wanted = f"{variable}={value}".encode()
    found = []
    for stat in all_processes().values():
        if not stat.alive or stat.pid == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            with open(f"/proc/{stat.pid}/environ", "rb") as stream:
                if wanted in stream.read().split(b"\0"):
                    found.append(stat)
    return found
