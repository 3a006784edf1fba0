"""Control groups: the one list of processes nobody can leave by forking, and the one switch that kills them all.

A lab has one cgroup2 group, each VM one below it. `cgroup.kill` (Linux 5.14) ends every process in a subtree at once;
that is how a dead lab's remains go. No controller is enabled, so a group may hold processes and groups.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Final

from lab.vm.mounts import mount

OWN_MOUNT: Final = Path("/run/mirrorplane-lab/cgroup")
POLL_S: Final = 0.01
REMOVE_TIMEOUT_S: Final = 5.0


class ProcessesRemain(RuntimeError):
    """Processes that did not end although killed (usually in an uninterruptible wait)."""


def hierarchy() -> Path:
    """Where cgroup2 is mounted; mounts it for the lab when nobody has."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, fs_type, options, *_ = line.split()
        if fs_type == "cgroup2" and "rw" in options.split(","):
            return Path(mount_point)
    OWN_MOUNT.mkdir(parents=True, exist_ok=True)
    mount("cgroup2", OWN_MOUNT, "cgroup2")
    return OWN_MOUNT


class Group:
    """One group and everything below it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def below(self, name: str) -> Group:
        return Group(self.path / name)

    def join(self) -> None:
        """Move the calling process here (used between fork and exec)."""
        (self.path / "cgroup.procs").write_text("0")

    def pids(self) -> list[int]:
        """All processes of the subtree."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            try:
                found += [int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()]
            except (FileNotFoundError, OSError):
                continue
        return found

    def kill(self) -> None:
        """SIGKILL to every process of the subtree; they may take a moment to go."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def freeze(self, frozen: bool) -> None:
        (self.path / "cgroup.freeze").write_text("1" if frozen else "0")

    @property
    def populated(self) -> bool:
        """The kernel's own word: true until the last thread is gone; `pids` no longer lists one that is exiting."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def wait_empty(self, timeout_s: float) -> None:
        """Blocks; raises `ProcessesRemain` naming them."""
        end = time.monotonic() + timeout_s
        while self.populated:
            if time.monotonic() >= end:
                raise ProcessesRemain(f"{self.path}: after {timeout_s:g} s still {describe(self.pids())}")
            time.sleep(POLL_S)

    def remove(self) -> None:
        """Remove the empty subtree, deepest first; a group whose last thread has just gone may be busy for a moment."""
        end = time.monotonic() + REMOVE_TIMEOUT_S
        for directory, _, _ in os.walk(self.path, topdown=False):
            while True:
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() >= end:
                        raise
                    time.sleep(POLL_S)
                else:
                    break


def describe(pids: list[int]) -> str:
    words: list[str] = []
    for pid in pids[:8]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        words.append(f"{pid} [{state}] {command[:80]}")
    return "; ".join(words) or "(ended just now)"
