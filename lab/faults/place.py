"""Where the parts of one node are, seen from the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

APPLICATION: Final = "ledger"


@dataclass(frozen=True)
class Place:
    """Where a node's parts are, seen from the machine."""

    name: str
    vm: str
    address: str
    public_address: str
    namespace: str
    directory: Path
    os_disk: Path
    data_disk: Path
    cgroup: Path

    @property
    def state(self) -> Path:
        return self.os_disk / "upper/var/lib/mirrorplane"

    @property
    def replicated(self) -> Path:
        return self.data_disk / APPLICATION
