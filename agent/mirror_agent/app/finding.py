"""What a test answers, and what tests may know of the node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Finding:
    """One test: `matched` names the processes a process checker counted, so that their death can be watched.

    `broken`: what was tested refuses its work altogether, so nothing that needs it can be done in order any more."""

    healthy: bool
    message: str
    matched: tuple[int, ...] = field(default=())
    broken: bool = False


class Check(Protocol):
    async def __call__(self) -> Finding: ...


@dataclass(frozen=True)
class Surroundings:
    """What tests need to know of the node: where commands run, and which processes belong to the application."""

    module_dir: Path
    environment: Callable[[], Mapping[str, str]]
    application_processes: Callable[[], Collection[int]]
