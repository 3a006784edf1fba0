"""What is compared: something with a directory to work in and, except for the raw disk, daemons that keep a copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench.mirror.usage import Process

RAW: Final = "raw"
GLUSTERFS: Final = "glusterfs"
STRICT: Final = "strict"
ORDERED: Final = "ordered"
COLUMNS: Final = (RAW, GLUSTERFS, STRICT, ORDERED)


class Candidate(Protocol):
    """`directory` is where the application works; `copy` is node b's side of it, None for the raw disk."""

    @property
    def name(self) -> str: ...

    @property
    def directory(self) -> Path: ...

    @property
    def copy(self) -> Path | None: ...

    def check(self) -> None:
        """Raises `BenchError` if its copy is not kept up at this moment: a figure would be void."""

    def processes(self) -> list[Process]:
        """Its daemons on both nodes."""

    def stop(self) -> None:
        """Ends it; may leave things to the end of the enclosure."""


@dataclass(frozen=True)
class Raw:
    """The disk of node a, without a copy."""

    directory: Path
    name: str = RAW
    copy: Path | None = None

    def check(self) -> None:
        return

    def processes(self) -> list[Process]:
        return []

    def stop(self) -> None:
        return
