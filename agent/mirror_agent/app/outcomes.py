"""What came of starting, stopping and killing the application: values, because the caller must choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """`start_prim` returned 0; the application's checkers tell whether it is healthy."""

    duration_s: float


@dataclass(frozen=True)
class StartFailed:
    """Nothing of the application runs any more, unless `survivors` names processes the kernel did not let go."""

    reason: str
    survivors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stopped:
    """No process of the application is left. `graceful`: the stop script succeeded and nothing had to be killed."""

    graceful: bool
    reason: str


@dataclass(frozen=True)
class StopFailed:
    """These processes are still there after SIGKILL: they wait in the kernel, e.g. for a file system."""

    reason: str
    survivors: tuple[int, ...]


@dataclass(frozen=True)
class Killed:
    """Every process of the application is dead. `count` is how many were signalled."""

    count: int
    duration_s: float


@dataclass(frozen=True)
class Survived:
    """These are still there after SIGKILL and the deadline; abort the file system they wait for, then kill again."""

    pids: tuple[int, ...]
    duration_s: float


@dataclass(frozen=True)
class Prepared:
    ran: bool


@dataclass(frozen=True)
class PrepareFailed:
    reason: str


StartOutcome = Started | StartFailed
StopOutcome = Stopped | StopFailed
KillOutcome = Killed | Survived
PrepareOutcome = Prepared | PrepareFailed
