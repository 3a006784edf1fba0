"""The hands of a case: what can be done to nodes, processes, packets and disks, each with its undoing.

Every accident registers its reversal in `undo`; the runner unwinds it after the case, however the case ended. Waiting
is always for a fact with a deadline; the only times are those that belong to the accident itself (`hold`).
"""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from lab.fabric.cgroups import Group
from lab.fabric.commands import nft
from lab.faults.client import Writers
from lab.faults.model import NODES, Sample
from lab.faults.place import Place
from lab.faults.stage import Stage
from lab.vm.machine import enter_argv, read_pid_one

POLL_S: Final = 0.02
INSIDE_TIMEOUT_S: Final = 60.0
SUPERVISOR: Final = "-m mirror_agent.supervisor"
ENGINE: Final = "-m mirror_agent.mirror "
LEDGER: Final = "ledger.py"
TABLE: Final = "faults"
T = TypeVar("T")


class CaseBroken(RuntimeError):
    """A fact the case relies on did not come true; the message says which and what was seen."""


class Scene:
    """One case on the stage: `prim` and `second` are the roles at its beginning."""

    def __init__(self, stage: Stage, prim: str, writers: Writers) -> None:
        self.stage = stage
        self.prim = prim
        self.second = other(prim)
        self.writers = writers
        self.undo = AsyncExitStack()
        self.began_wall = time.time()
        self.began_at = time.monotonic()
        self._rules: dict[str, str] = {}

    def renew(self) -> None:
        """What was before only prepared the accident: outage and changes of the primary count from now."""
        self.began_wall, self.began_at = time.time(), time.monotonic()
        self.stage.watch.forget()

    @asynccontextmanager
    async def nested(self) -> AsyncIterator[Scene]:
        """A scene within this one: what is done in it is undone at its end."""
        inner = copy.copy(self)
        async with AsyncExitStack() as inner.undo:
            yield inner

    def place(self, node: str) -> Place:
        return self.stage.places[node]

    # --- power -----------------------------------------------------------------------------------------------------
    async def kill(self, node: str) -> None:
        """The power goes; it comes back at the end of the case, unless the case switches it on before."""
        await self.stage.lab.acall("kill", node=self.place(node).vm)
        self.undo.push_async_callback(self.start, node)

    async def start(self, node: str) -> None:
        await self.stage.lab.acall("start", node=self.place(node).vm)

    async def freeze(self, node: str) -> None:
        """All processes of the VM stand still and its packets are lost, as during a pause of its host."""
        await self.stage.lab.acall("freeze", node=self.place(node).vm)
        self.undo.push_async_callback(self.thaw, node)

    async def thaw(self, node: str) -> None:
        await self.stage.lab.acall("thaw", node=self.place(node).vm)

    # --- processes -------------------------------------------------------------------------------------------------
    def pids(self, node: str, pattern: str) -> list[int]:
        """Processes of the VM whose command line contains `pattern`."""
        found = []
        for pid in Group(self.place(node).cgroup).pids():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if pattern in command:
                    found.append(pid)
        return found

    async def signal(self, node: str, pattern: str, number: signal.Signals) -> None:
        """To every process that matches; at least one must be there within a few seconds."""
        pids = await self.until(lambda: self.pids(node, pattern), 10.0, f"a process {pattern!r} on {node}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def pause_process(self, node: str, pattern: str) -> None:
        """SIGSTOP; SIGCONT at the end of the case to whatever is still there."""
        await self.signal(node, pattern, signal.SIGSTOP)

        async def resume() -> None:
            for pid in self.pids(node, pattern):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        self.undo.push_async_callback(resume)

    async def inside(self, node: str, *argv: str, timeout_s: float = INSIDE_TIMEOUT_S) -> str:
        """Standard output of a command in the VM. Raises `CaseBroken` when it fails."""
        return await inside(self.place(node), *argv, timeout_s=timeout_s)

    def background(self, node: str, *argv: str) -> asyncio.Task[str]:
        """A command in the VM that goes on beside the case; how it ends is not looked at."""

        async def run() -> str:
            try:
                return await self.inside(node, *argv, timeout_s=150.0)
            except CaseBroken as error:
                return str(error)

        task = asyncio.create_task(run(), name=f"inside-{node}")

        async def finish() -> None:
            await asyncio.wait({task}, timeout=1.0)
            task.cancel()

        self.undo.push_async_callback(finish)
        return task

    # --- network ---------------------------------------------------------------------------------------------------
    async def partition(self, target: str) -> None:
        """A partition of the lab by its own words: a, link, witness, control-plane, a:witness …"""
        await self.stage.lab.acall("partition", target=f"{self.stage.cluster}/{target}")
        self.undo.push_async_callback(self.heal)

    async def heal(self) -> None:
        await self.stage.lab.acall("heal", cluster=self.stage.cluster)

    async def rules(self, chain: str, hook: str, *lines: str) -> None:
        """nftables rules of our own in the router, beside the lab's; an empty list takes the chain away."""
        self._rules.pop(chain, None)
        if lines:
            body = "".join(f"    {line}\n" for line in lines)
            self._rules[chain] = f"  chain {chain} {{\n    {hook};\n{body}  }}\n"
        await self._load()
        self.undo.push_async_callback(self._unload)

    async def _load(self) -> None:
        text = "".join(self._rules.values())
        table = f"table ip {TABLE} {{\n{text}}}\n" if text else ""
        await nft(self.stage.router, f"table ip {TABLE}\ndelete table ip {TABLE}\n{table}")

    async def _unload(self) -> None:
        self._rules.clear()
        await self._load()

    async def drop(self, *matches: str) -> None:
        """Forwarded packets that match one of the expressions vanish."""
        lines = [f"{match} drop" for match in matches]
        await self.rules("lost", "type filter hook forward priority -20", *lines)

    # --- time and facts --------------------------------------------------------------------------------------------
    async def hold(self, seconds: float) -> None:
        """The duration of the accident."""
        await asyncio.sleep(seconds)

    async def until(self, fact: Callable[[], T], deadline_s: float, what: str) -> T:
        """The first true value of `fact`; raises `CaseBroken`."""
        limit = time.monotonic() + deadline_s
        while not (found := fact()):
            if time.monotonic() > limit:
                raise CaseBroken(f"not within {deadline_s:g} s: {what}; seen: {self.describe()}")
            await asyncio.sleep(POLL_S)
        return found

    async def writes(self, count: int = 20, deadline_s: float = 60.0) -> None:
        """Wait until the service acknowledges again."""
        try:
            await self.writers.wait_for(count, deadline_s=deadline_s)
        except TimeoutError:
            raise CaseBroken(f"no {count} writes within {deadline_s:g} s; seen: {self.describe()}") from None

    async def role(self, node: str, *roles: str, deadline_s: float = 30.0) -> None:
        await self.until(lambda: self.seen(node).role in roles, deadline_s, f"{node} is {' or '.join(roles)}")

    async def decided(self, node: str, rules: Iterable[str], deadline_s: float = 30.0) -> None:
        """Wait until the node's event log has one of these decisions, after the beginning of the case."""
        wanted = set(rules)

        def found() -> bool:
            events = self.stage.events(node, self.began_wall)
            return any(event["kind"] == "decision" and event["rule"] in wanted for event in events)

        await self.until(found, deadline_s, f"{node} decides {' or '.join(sorted(wanted))}")

    def seen(self, node: str) -> Sample:
        sample = self.stage.watch.latest(node)
        return sample or Sample(node, 0.0, 0.0, False)

    def describe(self) -> str:
        return ", ".join(f"{node} {words(self.seen(node))}" for node in NODES)


async def inside(place: Place, *argv: str, timeout_s: float = INSIDE_TIMEOUT_S) -> str:
    """Standard output of a command in the node's VM. Raises `CaseBroken` when it fails."""

    def run() -> subprocess.CompletedProcess[str]:
        command = enter_argv(read_pid_one(place.directory), argv)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    try:
        done = await asyncio.to_thread(run)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CaseBroken(f"{place.vm}: {' '.join(argv)[:80]}: {error}") from None
    if done.returncode != 0:
        said = f"{done.stdout.strip()} {done.stderr.strip()}".strip()
        raise CaseBroken(f"{place.vm}: {' '.join(argv)[:80]} ended with {done.returncode}: {said[-500:]}")
    return done.stdout


def other(node: str) -> str:
    return "b" if node == "a" else "a"


def words(sample: Sample) -> str:
    if not sample.answered:
        return "silent"
    return f"{sample.role} {sample.phase} epoch {sample.epoch}{' serving' if sample.serving else ''}"


def paired(stage: Stage) -> str | None:
    """The primary, when one node is PRIM ready and serves, the other SECOND ready, both in one epoch."""
    found = {node: stage.watch.latest(node) for node in NODES}
    for node, sample in found.items():
        peer = found[other(node)]
        if sample is None or peer is None or not (sample.answered and peer.answered):
            continue
        roles = (sample.role, sample.phase, peer.role, peer.phase)
        if sample.serving and roles == ("PRIM", "ready", "SECOND", "ready") and sample.epoch == peer.epoch:
            return node
    return None


def evidence(stage: Stage, since_wall: float, last: int = 12) -> dict[str, Any]:
    """States, reasons and the last events of both nodes, for a failure's report."""
    found: dict[str, Any] = {}
    for node in NODES:
        sample = stage.watch.latest(node)
        events = [event for event in stage.events(node, since_wall) if event["kind"] != "checker.changed"]
        found[node] = {"state": words(sample) if sample else "never seen", "events": events[-last:]}
    return found
