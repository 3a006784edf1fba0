"""One PostgreSQL (Debian's) per candidate, on the candidate's directory; all start from the same bytes.

The cluster is made and filled once on the raw disk and copied. Automatic checkpoints and autovacuum are off, and a
checkpoint is made between measurements, so that none falls into somebody else's; fsync, full page writes and
synchronous commit stay on as they come.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.mirror.commands import BenchError, run
from bench.mirror.packages import postgres_bin

_USER: Final = "postgres"
_START_S: Final = 120.0
_INIT_S: Final = 600.0
# The accounts of eight clients: scale 10, as in the figures this is compared with.
SCALE: Final = 10
INIT_SCALE: Final = 1
_SETTINGS: Final = """
listen_addresses = ''
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 4GB
max_connections = 20
shared_buffers = 128MB
"""
_TPS: Final = re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE)
_DONE: Final = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)


def _as_user(*argv: str) -> list[str]:
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", "--", *argv]


def _program(name: str) -> str:
    directory = postgres_bin()
    if directory is None:
        raise BenchError("PostgreSQL is not installed")
    return str(directory / name)


@dataclass
class Server:
    """One running PostgreSQL. Its socket is in `sockets`, the name of the socket is its port."""

    data: Path
    sockets: Path
    port: int

    def start(self) -> None:
        options = f"-k {self.sockets} -p {self.port}"
        log = self.sockets / f"{self.port}.log"
        # cwd: the user may not enter the one we are in.
        command = _as_user(_program("pg_ctl"), "start", "-w", "-s", "-D", str(self.data), "-l", str(log), "-o", options)
        try:
            run(command, timeout_s=_START_S, cwd="/")
        except BenchError as error:
            tail = log.read_text(errors="replace")[-800:] if log.exists() else ""
            raise BenchError(f"{error}\n{tail}") from None

    def stop(self) -> None:
        run(_as_user(_program("pg_ctl"), "stop", "-w", "-s", "-m", "fast", "-D", str(self.data)), cwd="/")

    def sql(self, statement: str) -> str:
        return run([*self._client("psql"), "-X", "-q", "-A", "-t", "-c", statement, "postgres"], timeout_s=_INIT_S)

    def checkpoint(self) -> None:
        self.sql("checkpoint")

    def initialise(self, scale: int, database: str) -> float:
        """`pgbench -i`; seconds."""
        began = time.perf_counter()
        run([*self._client("pgbench"), "-i", "-q", "-s", str(scale), database], timeout_s=_INIT_S)
        return time.perf_counter() - began

    def transactions(self, clients: int, seconds: int) -> tuple[float, int]:
        """(transactions per second, transactions) of TPC-B-like clients, a connection and a pgbench thread for all."""
        said = run(
            [*self._client("pgbench"), "-n", "-c", str(clients), "-j", "1", "-T", str(seconds), "postgres"],
            timeout_s=seconds + COMMAND_GRACE_S,
        )
        tps, done = _TPS.search(said), _DONE.search(said)
        if tps is None or done is None:
            raise BenchError(f"pgbench said something unexpected: {said[-500:]}")
        return float(tps[1]), int(done[1])

    def _client(self, name: str) -> list[str]:
        return [_program(name), "-h", str(self.sockets), "-p", str(self.port), "-U", _USER]


COMMAND_GRACE_S: Final = 60.0


class Servers:
    """All candidates' servers, by name of the candidate; `open` makes and starts them."""

    def __init__(self, base: Path, scale: int) -> None:
        self._base = base
        self._scale = scale
        self._servers: dict[str, Server] = {}

    def open(self, raw: Path, others: dict[str, Path]) -> None:
        """Makes the cluster in `raw` (a candidate's directory), copies it to the others, starts them all."""
        sockets = self._base / "postgres"
        sockets.mkdir()
        user = pwd.getpwnam(_USER)
        os.chown(sockets, user.pw_uid, user.pw_gid)
        first = Server(raw / "pg", sockets, 5432)
        self._make(first)
        first.stop()
        for number, (name, directory) in enumerate({"raw": raw, **others}.items()):
            data = directory / "pg"
            if data != first.data:
                run(["cp", "--archive", str(first.data), str(data)], timeout_s=_INIT_S)
                run(["sync", "--file-system", str(data)], timeout_s=_INIT_S)
            self._servers[name] = Server(data, sockets, 5432 + number)
        for server in self._servers.values():
            server.start()

    def _make(self, server: Server) -> None:
        server.data.mkdir(mode=0o700)
        shutil.chown(server.data, _USER, _USER)
        run(_as_user(_program("initdb"), "-D", str(server.data), "-A", "trust", "-U", _USER, "--no-sync"), cwd="/")
        with (server.data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        server.start()
        server.initialise(self._scale, "postgres")
        server.sql("create database init")
        server.checkpoint()

    def of(self, name: str) -> Server:
        return self._servers[name]

    def close(self) -> None:
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
