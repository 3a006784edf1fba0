"""Processor time and memory of daemons, from /proc of the benchmark's own pid namespace.

Processor time counts all threads, also ended ones, to 10 ms; memory is resident memory,
its peak where the name says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024


@dataclass(frozen=True)
class Process:
    """`node` is "a" or "b", by its network namespace."""

    pid: int
    node: str


def find(wanted: Callable[[list[str]], bool], namespaces: dict[str, int]) -> list[Process]:
    """The processes whose command line is wanted, in one of the network namespaces (name -> inode number)."""
    names = {inode: name for name, inode in namespaces.items()}
    found = []
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
            inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if inode in names and wanted(argv):
            found.append(Process(pid, names[inode]))
    return found


def cpu_s(processes: Iterable[Process]) -> float:
    """User and system time so far, together."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S


def _memory_bytes(processes: Iterable[Process], key: str) -> int:
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                total += int(line.split()[1]) * _KIB
    return total


def resident_bytes(processes: Iterable[Process]) -> int:
    return _memory_bytes(processes, "VmRSS")


def peak_bytes(processes: Iterable[Process]) -> int:
    return _memory_bytes(processes, "VmHWM")


def machine_busy_s() -> float:
    """Processor time the whole machine has used so far (user, nice, system, interrupts)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) * _TICK_S
