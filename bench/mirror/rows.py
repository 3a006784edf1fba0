"""The rows of the table: what is run for each, on which wires, and in which unit the answer is.

A load is run once per round, wire and candidate and may fill several rows. Its `run` gets a fresh empty directory of
the candidate and answers with one `Sample` per row.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.mirror import tree
from bench.mirror.commands import BenchError, run
from bench.mirror.network import FAR, NEAR
from bench.mirror.postgres import INIT_SCALE, Server

_LOAD_S: Final = 300.0
_FIO_FILE: Final = "32m"
_FIO_JOBS_MAX: Final = 4
BOTH: Final = (NEAR, FAR)


@dataclass(frozen=True)
class Row:
    """One line of the table. `higher`: a greater value is the better one."""

    name: str
    unit: str
    higher: bool = True


@dataclass(frozen=True)
class Sample:
    """One measurement of one row; `operations` is what processor time is divided by."""

    value: float
    operations: int


@dataclass(frozen=True)
class Place:
    """Where one measurement happens. `home` is the candidate's directory, `directory` a new one below it."""

    home: Path
    directory: Path
    seconds: float
    archives: Path
    server: Callable[[], Server]


@dataclass(frozen=True)
class Load:
    """`cpu`: the unit of work of its processor-time row, empty for none. `quick`: part of QUICK=1."""

    rows: tuple[Row, ...]
    run: Callable[[Place], tuple[Sample, ...]]
    links: tuple[str, ...] = BOTH
    cpu: str = ""
    quick: bool = False
    database: bool = False


def _program(name: str, *phases: str) -> Callable[[Place], tuple[Sample, ...]]:
    def measure(place: Place) -> tuple[Sample, ...]:
        said = run(
            [sys.executable, "-m", "bench.mirror.programs", name, str(place.directory), str(place.seconds)],
            timeout_s=_LOAD_S,
        )
        results = json.loads(said)
        samples = []
        for phase in phases:
            count, elapsed_s = results[phase]
            samples.append(Sample(count / elapsed_s, count))
        return tuple(samples)

    return measure


def prepare_fio(home: Path) -> None:
    """The files of the random writes, written in full, so that no measurement pays for their growth."""
    directory = home / "fio"
    directory.mkdir()
    _fio(directory, "--rw=write", "--bs=1m", f"--numjobs={_FIO_JOBS_MAX}", "--end_fsync=1")


def _fio(directory: Path, *options: str) -> dict[str, float]:
    said = run(
        [
            *("fio", "--name=bench", f"--directory={directory}", "--filename_format=data.$jobnum"),
            *("--ioengine=psync", f"--size={_FIO_FILE}", "--fallocate=none", "--group_reporting"),
            *("--output-format=json", *options),
        ],
        timeout_s=_LOAD_S,
    )
    # fio prints notes before its JSON when it has any.
    job = json.loads(said[said.index("{") :])["jobs"][0]
    if job["error"]:
        raise BenchError(f"fio ended with error {job['error']} in {directory}")
    written: dict[str, float] = job["write"]
    return written


def _random_writes(*options: str) -> Callable[[Place], tuple[Sample, ...]]:
    def measure(place: Place) -> tuple[Sample, ...]:
        written = _fio(
            place.home / "fio",
            "--rw=randwrite",
            "--bs=4k",
            "--time_based",
            f"--runtime={int(place.seconds * 1000)}ms",
            *options,
        )
        return (Sample(written["iops"], int(written["total_ios"])),)

    return measure


def _bulk(place: Place) -> tuple[Sample, ...]:
    """Whole files over again, without memory or blocks that have to be found first: what the way itself can carry."""
    directory = place.home / "fio"
    written = _fio(directory, "--rw=write", "--bs=1m", "--time_based", f"--runtime={int(place.seconds * 1000)}ms")
    return (Sample(written["bw_bytes"] / 1e6, int(written["io_bytes"] / (1 << 20))),)


def _untar(files: int) -> Callable[[Place], tuple[Sample, ...]]:
    def measure(place: Place) -> tuple[Sample, ...]:
        archive = tree.archive_path(place.archives, files)
        began = time.perf_counter()
        run(["tar", "--extract", "--file", str(archive), "--directory", str(place.directory)], timeout_s=_LOAD_S)
        return (Sample(time.perf_counter() - began, files),)

    return measure


def _pgbench(clients: int) -> Callable[[Place], tuple[Sample, ...]]:
    def measure(place: Place) -> tuple[Sample, ...]:
        server = place.server()
        # A new connection per client and the first touch of every page after the checkpoint are part of each run.
        tps, done = server.transactions(clients, max(1, round(2 * place.seconds)))
        return (Sample(tps, done),)

    return measure


def _pgbench_init(place: Place) -> tuple[Sample, ...]:
    return (Sample(place.server().initialise(INIT_SCALE, "init"), 1),)


FSYNC: Final = Row("4 KiB random write + fsync, 1 job", "ops/s")
FSYNC_4: Final = Row("4 KiB random write + fsync, 4 jobs on 4 files", "ops/s")
DSYNC: Final = Row("4 KiB random write, O_DSYNC", "ops/s")
BUFFERED: Final = Row("4 KiB random write, buffered", "ops/s")
SEQUENTIAL_128K: Final = Row("sequential write, 128 KiB + end fsync", "MiB/s")
SEQUENTIAL_1M: Final = Row("sequential write, 1 MiB + end fsync", "MiB/s")
BULK: Final = Row("bulk write in place, 1 MiB", "MB/s")
READ_WARM: Final = Row("sequential read, warm", "MiB/s")
STAT: Final = Row("stat", "ops/s")
CREATE: Final = Row("create 1 KiB files", "files/s")
RENAME: Final = Row("rename", "files/s")
UNLINK: Final = Row("unlink", "files/s")
REPLACE: Final = Row("write tmp + fsync + rename", "files/s")
SQLITE_WAL: Final = Row("SQLite WAL, synchronous=FULL, inserts", "txn/s")
SQLITE_ROLLBACK: Final = Row("SQLite rollback journal, inserts", "txn/s")
UNTAR: Final = Row(f"untar {tree.FILES} files", "s", higher=False)
UNTAR_FEW: Final = Row(f"untar {tree.FILES_FEW} files", "s", higher=False)
PGBENCH_INIT: Final = Row(f"pgbench -i, scale {INIT_SCALE}", "s", higher=False)
PGBENCH_1: Final = Row("pgbench TPC-B, 1 client", "txn/s")
PGBENCH_8: Final = Row("pgbench TPC-B, 8 clients", "txn/s")

# Measured by bench.mirror.resync, with a pair of its own.
RESYNC_COPY: Final = Row("resync, everything copied", "s", higher=False)
RESYNC_CHANGED: Final = Row("resync, 1 % changed", "s", higher=False)
RESYNC_FACTOR: Final = Row("resync, 1 % changed: times as fast as everything", "×")
RESYNC_WRITES: Final = Row("application's writes during a resync, of those after it", "%")

LOADS: Final = (
    Load((FSYNC,), _random_writes("--fsync=1"), cpu="op", quick=True),
    Load((FSYNC_4,), _random_writes("--fsync=1", "--numjobs=4"), cpu="op"),
    Load((DSYNC,), _random_writes("--sync=dsync"), links=(NEAR,), cpu="op"),
    Load((BUFFERED,), _random_writes(), cpu="op"),
    Load((SEQUENTIAL_128K,), _program("sequential-128k", "sequential"), links=(NEAR,), cpu="MiB"),
    Load((SEQUENTIAL_1M,), _program("sequential-1m", "sequential"), cpu="MiB", quick=True),
    Load((BULK,), _bulk, links=(NEAR,), cpu="MiB"),
    Load((READ_WARM,), _program("read-warm", "read"), links=(NEAR,)),
    Load((STAT,), _program("stat", "stat")),
    Load((CREATE, RENAME, UNLINK), _program("names", "create", "rename", "unlink"), cpu="op", quick=True),
    Load((REPLACE,), _program("replace", "replace"), links=(NEAR,), cpu="file"),
    Load((SQLITE_WAL,), _program("sqlite-wal", "insert"), cpu="txn", quick=True),
    Load((SQLITE_ROLLBACK,), _program("sqlite-rollback", "insert"), cpu="txn"),
    Load((UNTAR,), _untar(tree.FILES), links=(NEAR,), cpu="file"),
    Load((UNTAR_FEW,), _untar(tree.FILES_FEW), links=(FAR,)),
    Load((PGBENCH_INIT,), _pgbench_init, database=True),
    Load((PGBENCH_1,), _pgbench(1), cpu="txn", database=True),
    Load((PGBENCH_8,), _pgbench(8), cpu="txn", database=True, quick=True),
)
# What encryption costs is measured on these, against pairs without it.
_TLS_ROWS: Final = (FSYNC, SEQUENTIAL_1M, BULK, CREATE, SQLITE_WAL)
TLS_LOADS: Final = tuple(load for load in LOADS if load.rows[0] in _TLS_ROWS)
assert len(TLS_LOADS) == len(_TLS_ROWS)


def near_only(load: Load) -> Load:
    return replace(load, links=(NEAR,))
