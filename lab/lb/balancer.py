"""Run HAProxy for one load balancer; change its configuration without ending a flow.

Each change starts a new process that takes the listening sockets and the members' health from the one before (`-x`,
server state file) and tells it to finish (`-sf`): it accepts nothing more and lives on for its flows. Guarantee: when
`apply` returns, new flows follow the new configuration; a configuration HAProxy refuses changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.arm.provider import LoadBalancer
from lab.children import start_child, stop_child
from lab.fabric.cgroups import Group
from lab.fabric.namespaces import enter
from lab.lb.config import initial_state, render
from lab.prerequisites import tool

START_TIMEOUT_S: Final = 10.0
STOP_GRACE_S: Final = 1.0
POLL_S: Final = 0.02


class BalancerFailed(RuntimeError):
    """HAProxy refused the configuration or ended; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """One pool member under one probe; `since_s` = time in this state."""

    probe: str
    member: str
    up: bool
    since_s: int
    last_check: str


class Balancer:
    def __init__(self, directory: Path, namespace: str, group: Group) -> None:
        """`directory` is short: a Unix socket lives in it."""
        self._directory = directory
        self._namespace = namespace
        self._group = group
        self._generation = 0
        self._current: asyncio.subprocess.Process | None = None
        self._older: list[asyncio.subprocess.Process] = []
        self._last_config = ""
        self._lock = asyncio.Lock()

    @property
    def log(self) -> Path:
        return self._directory / "haproxy.log"

    async def apply(self, balancer: LoadBalancer) -> None:
        """Raises `BalancerUnsupported`, `BalancerFailed`."""
        async with self._lock:
            probe = render(balancer, admin_socket=Path("admin"), state_file=Path("state"))
            if probe == self._last_config and self._running:
                return
            await self._replace(balancer)
            self._last_config = probe

    async def _replace(self, balancer: LoadBalancer) -> None:
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        previous = await self._ask("show servers state") if self._running else ""
        generation = self._generation + 1
        config, state, admin = (self._directory / f"{name}.{generation}" for name in ("cfg", "state", "admin"))
        state.write_text(initial_state(balancer, previous))
        config.write_text(render(balancer, admin_socket=admin, state_file=state))
        argv = [tool("haproxy") or "haproxy", "-db", "-f", str(config)]
        if self._current is not None and self._current.returncode is None:
            argv += ["-x", str(self._admin_socket), "-sf", str(self._current.pid)]
        size = self.log.stat().st_size if self.log.exists() else 0
        process = await start_child(argv, log=self.log, cwd=self._directory, also=self._prepare)
        end = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not admin.exists():
            if process.returncode is not None or asyncio.get_running_loop().time() >= end:
                await stop_child(process, grace_s=STOP_GRACE_S)
                said = self.log.read_text(errors="replace")[size:][-2000:]
                raise BalancerFailed(f"HAProxy did not take the configuration of {balancer.name!r}: {said}")
            await asyncio.sleep(POLL_S)
        if self._current is not None:
            self._older.append(self._current)
        self._older = [old for old in self._older if old.returncode is None]
        self._current, self._generation = process, generation

    def _prepare(self) -> None:
        self._group.join()
        enter(self._namespace)

    @property
    def _running(self) -> bool:
        return self._current is not None and self._current.returncode is None

    @property
    def _admin_socket(self) -> Path:
        return self._directory / f"admin.{self._generation}"

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._admin_socket))
        try:
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return (await reader.read()).decode()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def health(self) -> tuple[MemberHealth, ...]:
        """What the probes say now; empty when HAProxy does not run."""
        if not self._running:
            return ()
        lines = (await self._ask("show stat -1 4 -1")).splitlines()
        columns = lines[0].removeprefix("# ").split(",")
        rows = [dict(zip(columns, line.split(","), strict=False)) for line in lines[1:] if line]
        return tuple(
            MemberHealth(
                probe=row["pxname"].removeprefix("probe."),
                member=row["svname"],
                up=row["status"].startswith("UP"),
                since_s=int(row["lastchg"] or 0),
                last_check=row["last_chk"] or row["check_status"],
            )
            for row in rows
            if row["pxname"].startswith("probe.")
        )

    async def stop(self) -> None:
        """End it and its flows."""
        async with self._lock:
            for process in (self._current, *self._older):
                if process is not None:
                    process.kill() if process.returncode is None else None
                    await process.wait()
            self._current, self._older, self._last_config = None, [], ""
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
