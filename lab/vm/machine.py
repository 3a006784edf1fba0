"""One VM as the lab's host sees it: boot, power states, hard power-off, commands inside.

Guarantees: when `boot` returns, PID 1 answers; when `power_off` returns, no process of the VM is left (its control
group is empty) and with the last process its mounts are gone. A guest that reboots itself comes back by itself.
Limit: the machine's page cache outlives the VM, so a hard power-off loses nothing written, synced or not (docs/lab.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lab.children import start_child
from lab.fabric.cgroups import Group
from lab.paths import REPOSITORY
from lab.vm.boot import EXIT_REBOOT, BootSpec
from lab.vm.cloudinit import Plan
from lab.vm.rootfs import Identity, prepare

BOOT_TIMEOUT_S: Final = 30.0
SHUTDOWN_TIMEOUT_S: Final = 180.0  # a little over the guest's own 150 s for stopping its services
BUTTON_TIMEOUT_S: Final = 10.0  # a guest that has not even taken note of the power button by then hangs
GONE_TIMEOUT_S: Final = 3.0
ABORT_FUSE_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.01
logger = logging.getLogger(__name__)


class BootFailed(RuntimeError):
    """PID 1 did not come up; the message holds the end of the console."""


class NotRunning(RuntimeError):
    """A command for a VM that does not run."""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What stays the same over the life of a VM."""

    name: str
    namespace: str  # network namespace, made by the fabric
    directory: Path  # console, channel, boot spec
    os_disk: Path
    data_disks: Mapping[str, Path]
    identity: Identity
    instance_id: str
    wheelhouse: Path


class Cabling(Protocol):
    """The VM's network for one boot: the fabric implements it."""

    async def plug(self) -> None:
        """Make the namespace anew and join it to its networks."""
        ...

    async def unplug(self) -> None:
        """Pull all cables at once: from now on nobody hears the VM."""
        ...

    async def remove(self) -> None:
        """Drop the namespace."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    exit_code: int
    stdout: str
    stderr: str


class Machine:
    def __init__(self, spec: MachineSpec, group: Group, cabling: Cabling) -> None:
        self.spec = spec
        self._cabling = cabling
        self.group = group
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ordered_off = False
        self.frozen = False
        self._lock = asyncio.Lock()

    # --- facts -------------------------------------------------------------------------------------------------------
    @property
    def channel(self) -> Path:
        return self.spec.directory / "channel"

    @property
    def console(self) -> Path:
        return self.spec.directory / "console.log"

    @property
    def running(self) -> bool:
        """Read from the process, not from what was ordered."""
        return self._process is not None and self._process.returncode is None

    def pid_one(self) -> int:
        """The host's pid of the VM's PID 1. Raises `NotRunning`."""
        try:
            return read_pid_one(self.spec.directory)
        except FileNotFoundError:
            raise NotRunning(f"{self.spec.name} does not run") from None

    # --- power -------------------------------------------------------------------------------------------------------
    async def boot(self, plan: Plan | None = None) -> None:
        """Start it; `plan` is seeded on a disk that has not booted yet. Does nothing when it runs."""
        async with self._lock:
            if self.running:
                return
            await asyncio.to_thread(prepare, self.spec.os_disk, self.spec.identity)
            if plan is not None:
                self._seed(plan)
            await self._boot()

    def _seed(self, plan: Plan) -> None:
        """Once per instance, as cloud-init: a disk that has booted this VM keeps what was done to it."""
        instance = self.spec.os_disk / "instance"
        if instance.exists() and instance.read_text() == self.spec.instance_id:
            return
        cloud = self.spec.os_disk / "upper/var/lib/cloud"
        shutil.rmtree(cloud / "instance", ignore_errors=True)
        seed = cloud / "seed"
        seed.mkdir(parents=True, exist_ok=True)
        path = seed / "plan.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(plan.as_json(), file)
        instance.write_text(self.spec.instance_id)

    async def _boot(self) -> None:
        self._ordered_off = self.frozen = False
        shutil.rmtree(self.channel, ignore_errors=True)
        self.channel.mkdir(parents=True)
        self.group.create()
        await self._cabling.plug()
        spec_path = self.spec.directory / "boot.json"
        BootSpec(
            hostname=self.spec.identity.hostname,
            namespace=self.spec.namespace,
            cgroup=str(self.group.path),
            disk=str(self.spec.os_disk),
            data_disks={name: str(path) for name, path in self.spec.data_disks.items()},
            channel=str(self.channel),
            wheelhouse=str(self.spec.wheelhouse),
        ).write(spec_path)
        process = await start_child(
            [sys.executable, "-m", "lab.vm.boot", str(spec_path)],
            log=self.console,
            env={"PATH": os.environ.get("PATH", "/usr/bin"), "PYTHONPATH": str(REPOSITORY)},
            cwd=Path("/"),
        )
        self._process = process
        self._watch = asyncio.create_task(self._watch_end(process), name=f"vm {self.spec.name}")
        end = asyncio.get_running_loop().time() + BOOT_TIMEOUT_S
        while not (self.channel / "booted").exists():
            if process.returncode is not None or asyncio.get_running_loop().time() >= end:
                await self._kill()
                raise BootFailed(f"{self.spec.name} did not boot; its console ends with: {self.console_tail()}")
            await asyncio.sleep(POLL_S)

    async def _watch_end(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        (self.channel / "pid1").unlink(missing_ok=True)
        if self._ordered_off:
            return
        logger.info("vm %s ended by itself with %s", self.spec.name, code)
        async with self._lock:
            if self._ordered_off or self._process is not process:
                return
            self.group.kill()
            await self._cabling.unplug()
            await asyncio.to_thread(self.group.wait_empty, GONE_TIMEOUT_S)
            if code == EXIT_REBOOT:
                await self._boot()
            else:
                await self._cabling.remove()

    async def power_off(self, *, skip_shutdown: bool) -> None:
        """Hard: every process dies at once. Else the guest is asked, and killed when it hangs or takes too long."""
        async with self._lock:
            self._ordered_off = True
            if self.running and not skip_shutdown:
                assert self._process is not None
                self.freeze(False)
                with contextlib.suppress(NotRunning, ProcessLookupError):
                    os.kill(self.pid_one(), signal.SIGTERM)
                if await self._takes_the_button(self._process):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._process.wait(), SHUTDOWN_TIMEOUT_S)
            await self._kill()

    async def _takes_the_button(self, process: asyncio.subprocess.Process) -> bool:
        """False when it ended already, too."""
        end = asyncio.get_running_loop().time() + BUTTON_TIMEOUT_S
        while process.returncode is None and asyncio.get_running_loop().time() < end:
            if (self.channel / "stopping").exists():
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def restart(self) -> None:
        await self.power_off(skip_shutdown=False)
        await self.boot()

    async def _kill(self) -> None:
        self._ordered_off = True
        connections = await asyncio.to_thread(self._fuse_connections)
        # The cable first: a machine without power does not tell its peers that its sockets closed.
        await self._cabling.unplug()
        with contextlib.suppress(NotRunning, ProcessLookupError):
            os.kill(self.pid_one(), signal.SIGKILL)
        if self.group.path.exists():
            self.group.kill()
        if self._process is not None:
            await self._process.wait()
        await asyncio.to_thread(self._wait_gone, connections)
        await self._cabling.remove()
        (self.channel / "pid1").unlink(missing_ok=True)

    def _wait_gone(self, connections: Sequence[int]) -> None:
        try:
            self.group.wait_empty(GONE_TIMEOUT_S)
        except RuntimeError:
            # A process waits for a FUSE daemon that is dying too; aborting the connection wakes it.
            logger.warning("vm %s: aborting FUSE connections %s", self.spec.name, connections)
            abort_fuse(connections)
            self.group.wait_empty(ABORT_FUSE_TIMEOUT_S)

    def _fuse_connections(self) -> list[int]:
        try:
            lines = Path(f"/proc/{self.pid_one()}/mountinfo").read_text().splitlines()
        except (NotRunning, OSError):
            return []
        return [int(line.split()[2].partition(":")[2]) for line in lines if line.partition(" - ")[2].startswith("fuse")]

    def freeze(self, frozen: bool) -> None:
        """Stop all its processes where they are (a host that pauses), or let them go on."""
        if not self.running:
            raise NotRunning(f"{self.spec.name} does not run")
        self.group.freeze(frozen)
        self.frozen = frozen

    # --- inside ------------------------------------------------------------------------------------------------------
    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 600.0) -> Finished:
        """Run a command as root inside. Raises `NotRunning`, TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            *enter_argv(self.pid_one(), argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=self.group.join,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    def console_tail(self, size_bytes: int = 2000) -> str:
        return self.console.read_text(errors="replace")[-size_bytes:] if self.console.exists() else "(empty)"


def read_pid_one(directory: Path) -> int:
    """From the VM's directory, also for another process than the lab's daemon. Raises FileNotFoundError."""
    return int((directory / "channel" / "pid1").read_text())


def enter_argv(pid_one: int, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` inside, with the environment of a root login."""
    names = ("mount", "uts", "ipc", "net", "pid", "cgroup")
    enter = ["nsenter", f"--target={pid_one}", *(f"--{name}" for name in names), "--root", "--"]
    clean = ["env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [*enter, *clean, path, *argv]


def abort_fuse(connections: Sequence[int]) -> None:
    """Abort FUSE connections through a fusectl mounted in a mount namespace of its own, so that nothing remains."""
    directory = "/sys/fs/fuse/connections"
    writes = "; ".join(f"echo 1 > {directory}/{number}/abort" for number in connections)
    script = f"mount -t fusectl none {directory}; {writes}"
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=False, timeout=20, capture_output=True)
