"""The benchmark's own programs: file and SQLite loads that no tool of the distribution makes. Run in a process each.

    python -m bench.mirror.programs NAME DIRECTORY SECONDS

prints {"phase": [operations, elapsed_s], ...}. A load stops after SECONDS or, where that is later, after the operation
it is in; `sequential-*` write a fixed amount. Only what a phase is named after is timed, the preparation is not.
"""

from __future__ import annotations

import json
import mmap
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

Phases = dict[str, tuple[int, float]]

KIB: Final = 1024
MIB: Final = 1024 * KIB
SEQUENTIAL_BYTES: Final = 64 * MIB
_READ_BYTES: Final = 64 * MIB
_STAT_FILES: Final = 400
_NAMES_MAX: Final = 20_000
_CONTENT: Final = b"m" * KIB


def names(directory: Path, seconds: float) -> Phases:
    """Creates 1 KiB files for the time, then renames all of them, then unlinks all of them."""
    base = os.fspath(directory)
    clock = time.perf_counter
    began = clock()
    deadline = began + seconds
    count = 0
    while count < _NAMES_MAX and clock() < deadline:
        fd = os.open(f"{base}/f{count}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, _CONTENT)
        os.close(fd)
        count += 1
    created = clock()
    for number in range(count):
        os.rename(f"{base}/f{number}", f"{base}/g{number}")
    renamed = clock()
    for number in range(count):
        os.unlink(f"{base}/g{number}")
    unlinked = clock()
    return {
        "create": (count, created - began),
        "rename": (count, renamed - created),
        "unlink": (count, unlinked - renamed),
    }


def replace(directory: Path, seconds: float) -> Phases:
    """The safe way to save a document: write a new file, fsync it, rename it over the old one."""
    target, scratch = os.fspath(directory / "document"), os.fspath(directory / "document.tmp")
    content = _CONTENT * 4
    clock = time.perf_counter
    began = clock()
    deadline = began + seconds
    count = 0
    while clock() < deadline:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, content)
        os.fsync(fd)
        os.close(fd)
        os.rename(scratch, target)
        count += 1
    return {"replace": (count, clock() - began)}


def stat(directory: Path, seconds: float) -> Phases:
    """stat of files that exist and, one in five, of a name that does not."""
    base = os.fspath(directory)
    paths = []
    for number in range(_STAT_FILES):
        paths.append(f"{base}/s{number}")
        os.close(os.open(paths[-1], os.O_WRONLY | os.O_CREAT, 0o644))
    for number in range(_STAT_FILES // 4):
        paths.insert(number * 5, f"{base}/missing{number}")
    clock = time.perf_counter
    count = 0
    began = clock()
    deadline = began + seconds
    while clock() < deadline:
        for path in paths:
            try:
                os.stat(path)
            except FileNotFoundError:
                continue  # one in five is not there
        count += len(paths)
    return {"stat": (count, clock() - began)}


def _fetch_memory() -> None:
    """Touches and frees as much memory as the page caches of both nodes are about to take. A hypervisor takes free
    memory back and gives it at 400 MiB/s; that would be measured instead of the candidates."""
    with mmap.mmap(-1, 2 * SEQUENTIAL_BYTES + SEQUENTIAL_BYTES // 2) as memory:
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1


def _sequential(directory: Path, block_bytes: int) -> Phases:
    _fetch_memory()
    block = os.urandom(block_bytes)
    count = SEQUENTIAL_BYTES // block_bytes
    path = directory / "sequential"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    began = time.perf_counter()
    for _ in range(count):
        os.write(fd, block)
    os.fsync(fd)
    elapsed = time.perf_counter() - began
    os.close(fd)
    path.unlink()
    return {"sequential": (SEQUENTIAL_BYTES // MIB, elapsed)}


def sequential_128k(directory: Path, _seconds: float) -> Phases:
    """A new file in blocks of 128 KiB and one fsync at the end; operations are MiB."""
    return _sequential(directory, 128 * KIB)


def sequential_1m(directory: Path, _seconds: float) -> Phases:
    """A new file in blocks of 1 MiB and one fsync at the end; operations are MiB."""
    return _sequential(directory, MIB)


def read_warm(directory: Path, seconds: float) -> Phases:
    """Reads a file again and again that was just read; operations are MiB."""
    path = directory / "warm"
    path.write_bytes(os.urandom(MIB) * (_READ_BYTES // MIB))
    buffer = bytearray(MIB)
    count = 0
    fd = os.open(path, os.O_RDONLY)
    for offset in range(0, _READ_BYTES, MIB):
        os.preadv(fd, [buffer], offset)
    began = time.perf_counter()
    deadline = began + seconds
    while time.perf_counter() < deadline:
        os.preadv(fd, [buffer], count * MIB % _READ_BYTES)
        count += 1
    elapsed = time.perf_counter() - began
    os.close(fd)
    path.unlink()
    return {"read": (count, elapsed)}


def _sqlite(directory: Path, seconds: float, journal: str) -> Phases:
    connection = sqlite3.connect(directory / "bench.db", isolation_level=None)
    connection.execute(f"pragma journal_mode={journal}")
    connection.execute("pragma synchronous=full")
    connection.execute("create table entry (number integer primary key, text text)")
    row = "x" * 100
    count = 0
    began = time.perf_counter()
    deadline = began + seconds
    while time.perf_counter() < deadline:
        connection.execute("insert into entry (text) values (?)", (row,))
        count += 1
    elapsed = time.perf_counter() - began
    connection.close()
    return {"insert": (count, elapsed)}


def sqlite_wal(directory: Path, seconds: float) -> Phases:
    """Inserts of 100 bytes, a transaction each, write-ahead log, synchronous=FULL."""
    return _sqlite(directory, seconds, "wal")


def sqlite_rollback(directory: Path, seconds: float) -> Phases:
    """Inserts of 100 bytes, a transaction each, rollback journal, synchronous=FULL."""
    return _sqlite(directory, seconds, "delete")


def files(directory: Path, seconds: float) -> Phases:
    """Creates SECONDS (a number of) empty files and keeps them: for the memory a known file takes."""
    count = int(seconds)
    began = time.perf_counter()
    for number in range(count):
        os.close(os.open(directory / f"k{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    return {"files": (count, time.perf_counter() - began)}


PROGRAMS: Final[dict[str, Callable[[Path, float], Phases]]] = {
    "names": names,
    "replace": replace,
    "stat": stat,
    "sequential-128k": sequential_128k,
    "sequential-1m": sequential_1m,
    "read-warm": read_warm,
    "sqlite-wal": sqlite_wal,
    "sqlite-rollback": sqlite_rollback,
    "files": files,
}


def main() -> int:
    name, directory, seconds = sys.argv[1:]
    print(json.dumps(PROGRAMS[name](Path(directory), float(seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
