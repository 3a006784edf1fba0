"""What the runner asks of the operating system: everything that one run of the application started, in one hand.

Problem: "the application" is whatever its scripts started, and what that started; each system has its own way of
holding that together (a subreaper on Linux, `runner_child`; a job object on Windows, `job_tree`).
Guarantee of every form: nothing leaves the tree by itself; it ends with the agent, however that ends; after `hold`
nothing new is started from here; a walk that is `done` has seen that nothing lives.
Limits: work that a script hands to a service of the machine is not in the tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mirror_agent.clock import Clock


@dataclass(frozen=True)
class ScriptExit:
    """`code` is negative for a signal; `tail` the end of what the script printed."""

    code: int
    tail: str


@dataclass(frozen=True)
class ScriptLost:
    """The script could not be started, or what ran it ended while it ran."""

    reason: str


ScriptOutcome = ScriptExit | ScriptLost


class Walk(Protocol):
    """Repeat `step` until `done`: each step kills what it finds."""

    killed: set[int]
    left: tuple[int, ...]

    @property
    def done(self) -> bool: ...

    def step(self) -> None: ...


class ProcessTree(Protocol):
    """One life of the application; after a kill a new one is made."""

    gone: asyncio.Event
    """Set when the tree has ended by itself, and what it held with it."""

    def run(
        self, script: Path, *, cwd: Path, environment: Mapping[str, str], log: Path
    ) -> asyncio.Future[ScriptOutcome]:
        """Start a script; the future tells how it ended. What it leaves running stays in the tree."""
        ...

    def living(self) -> list[int]: ...

    def ask_to_end(self) -> None:
        """What lives is asked to end in its own way, where the system has a way of asking."""
        ...

    async def hold(self, clock: Clock) -> None:
        """Nothing new starts from now on."""
        ...

    def walk(self) -> Walk: ...

    async def destroy(self) -> None:
        """Only when nothing is left in it."""
        ...


class ProcessTrees(Protocol):
    async def launch(self) -> ProcessTree:
        """Raises OSError."""
        ...

    def leftovers(self, variable: str, value: str) -> list[int]:
        """Processes whose environment holds `variable=value`. May wait long: not for an event loop."""
        ...

    def kill(self, pids: list[int]) -> None: ...
