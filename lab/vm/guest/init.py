"""PID 1 of a VM of the lab.

Reaps zombies, mounts /etc/fstab, starts the enabled services, runs cloud-init's plan at the first boot, answers the
`systemctl` shim, and on SIGTERM (the power button) stops the services, then kills the rest. Its exit status tells the
host what was asked for: 0 power off, 64 reboot. SIGKILL of it is the hard power-off: the kernel kills every process of
the pid namespace.
"""

# ruff: noqa: ASYNC240 - small files on local disks; nothing else waits meanwhile
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab.vm.guest import firstboot, fstab
from lab.vm.guest.processes import ControlGroup, Launch, Reaper
from lab.vm.guest.service import BASE_ENVIRONMENT, Service
from lab.vm.guest.unitfile import UNIT_DIRECTORIES, UnitError, find_unit, load_unit, parse_unit, unit_name

CONTROL_SOCKET = "/run/systemd/lab-control"
READY_MARK = Path("/run/lab/channel/booted")
STOPPING_MARK = READY_MARK.with_name("stopping")
WANTS = UNIT_DIRECTORIES[0] / "multi-user.target.wants"
CLOUD_INIT_LOG = Path("/var/log/cloud-init-output.log")
STOP_ALL_TIMEOUT_S = 150.0
LAST_KILL_TIMEOUT_S = 5.0
EXIT_POWER_OFF = 0
EXIT_REBOOT = 64
MAX_REQUEST_BYTES = 64 * 1024


class Refused(Exception):
    """A systemctl call the lab's init does not answer; the message is for the caller, `code` its exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Init:
    def __init__(self) -> None:
        self._reaper = Reaper()
        self._services: dict[str, Service] = {}
        self._end = asyncio.Event()
        self._exit_code = EXIT_POWER_OFF
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._reaper.watch(loop)
        loop.add_signal_handler(signal.SIGTERM, self._order, EXIT_POWER_OFF)
        loop.add_signal_handler(signal.SIGINT, self._order, EXIT_REBOOT)
        Path(CONTROL_SOCKET).parent.mkdir(parents=True, exist_ok=True)
        server = await asyncio.start_unix_server(self._serve, CONTROL_SOCKET, limit=MAX_REQUEST_BYTES)
        Path(CONTROL_SOCKET).chmod(0o600)
        self._mount()
        READY_MARK.write_text(f"{os.getpid()}\n")
        say("booted")
        # Enabled services start at every boot; cloud-init's final stage comes beside them, as under systemd.
        for link in sorted(WANTS.glob("*.service")) if WANTS.is_dir() else ():
            self._background(self._start_quietly(link.name))
        if firstboot.pending():
            self._background(self._first_boot())
        await self._end.wait()
        server.close()
        await self._shut_down()
        return self._exit_code

    def _order(self, exit_code: int) -> None:
        STOPPING_MARK.touch()
        say("shutting down" if exit_code == EXIT_POWER_OFF else "rebooting")
        self._exit_code = exit_code
        self._end.set()

    def _background(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _mount(self) -> None:
        try:
            for sentence in fstab.mount_all():
                say(sentence)
        except fstab.MountFailed as error:
            say(f"fstab: {error}")

    async def _start_quietly(self, name: str) -> None:
        try:
            await self._service(name).start()
        except (UnitError, OSError) as error:
            say(str(error))

    async def _first_boot(self) -> None:
        group = ControlGroup("cloud-final.service")
        group.create()
        argv = [sys.executable, "-I", sys.argv[0], "firstboot"]
        environment = {**BASE_ENVIRONMENT, "HOME": "/root", "USER": "root"}
        _, exited = self._reaper.launch(Launch(argv, environment, CLOUD_INIT_LOG, group.path))
        status = await exited
        say(f"cloud-init ended with {os.waitstatus_to_exitcode(status)}, see {CLOUD_INIT_LOG}")

    async def _shut_down(self) -> None:
        stops = [service.stop() for service in self._services.values()]
        if stops:
            done = asyncio.gather(*stops, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                for outcome in await asyncio.wait_for(done, STOP_ALL_TIMEOUT_S):
                    if isinstance(outcome, BaseException):
                        say(f"stop: {outcome!r}")
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)
            end = time.monotonic() + LAST_KILL_TIMEOUT_S
            while _others() and time.monotonic() < end:
                self._reaper.reap()
                await asyncio.sleep(0.02)
        os.sync()

    # --- systemctl ---------------------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            argv = [str(word) for word in json.loads(await reader.readline())["argv"]]
            try:
                code, out = await self._systemctl(argv)
                answer = {"code": code, "out": out, "err": ""}
            except Refused as error:
                answer = {"code": error.code, "out": "", "err": str(error)}
            except (UnitError, OSError) as error:
                answer = {"code": 1, "out": "", "err": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ValueError, KeyError, ConnectionError) as error:
            say(f"control: {error!r}")
        finally:
            writer.close()

    async def _systemctl(self, argv: list[str]) -> tuple[int, str]:
        options = {word for word in argv if word.startswith("-")}
        words = [word for word in argv if not word.startswith("-")]
        unknown = options - {"--now", "--quiet", "-q", "--no-block", "--no-pager", "--system", "--force", "-f"}
        if unknown:
            raise Refused(f"systemctl: option {sorted(unknown)[0]} is not supported by the lab's init")
        verb, names = (words[0], [unit_name(word) for word in words[1:]]) if words else ("", [])
        whole: dict[str, Callable[[], tuple[int, str]]] = {
            "daemon-reload": self._reload,
            "reboot": lambda: self._ordered(EXIT_REBOOT),
            "poweroff": lambda: self._ordered(EXIT_POWER_OFF),
            "is-system-running": lambda: (0, "running"),
        }
        if verb in whole:
            return whole[verb]()
        each = {
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "enable": self._enable,
            "disable": self._disable,
            "is-active": self._is_active,
            "is-enabled": self._is_enabled,
            "is-failed": self._is_failed,
            "status": self._status,
            "reset-failed": self._reset_failed,
        }
        if verb not in each:
            known = ", ".join(sorted((*whole, *each)))
            raise Refused(f"systemctl: {verb or '(nothing)'} is not supported by the lab's init; it knows {known}")
        if not names:
            raise Refused(f"systemctl {verb}: name a unit")
        results = [await each[verb](name, options) for name in names]
        return max(code for code, _ in results), "\n".join(text for _, text in results if text)

    def _service(self, name: str) -> Service:
        if name not in self._services:
            self._services[name] = Service(load_unit(name), self._reaper, say)
        return self._services[name]

    def _reload(self) -> tuple[int, str]:
        """Read all unit files again; a running service takes the new text at its next start, as under systemd."""
        for name, service in self._services.items():
            try:
                path = find_unit(name)
            except UnitError:
                continue
            service.unit = parse_unit(name, path, path.read_text())
        return 0, ""

    def _ordered(self, exit_code: int) -> tuple[int, str]:
        self._order(exit_code)
        return 0, ""

    async def _start(self, name: str, options: set[str]) -> tuple[int, str]:
        service = self._service(name)
        if "--no-block" in options:
            self._background(self._start_quietly(name))
        else:
            await service.start()
        return 0, ""

    async def _stop(self, name: str, options: set[str]) -> tuple[int, str]:
        find_unit(name)
        if "--no-block" in options:
            self._background(self._service(name).stop())
        else:
            await self._service(name).stop()
        return 0, ""

    async def _restart(self, name: str, options: set[str]) -> tuple[int, str]:
        async def again() -> None:
            await self._service(name).stop()
            await self._service(name).start()

        find_unit(name)
        if "--no-block" in options:
            self._background(again())
        else:
            await again()
        return 0, ""

    async def _enable(self, name: str, options: set[str]) -> tuple[int, str]:
        unit = load_unit(name)
        if not unit.wanted_by:
            raise Refused(f"systemctl enable {name}: its file has no [Install] WantedBy=")
        if unit.wanted_by != ("multi-user.target",):
            raise Refused(
                f"systemctl enable {name}: WantedBy={' '.join(unit.wanted_by)}; the lab has multi-user.target"
            )
        WANTS.mkdir(parents=True, exist_ok=True)
        link = WANTS / name
        link.unlink(missing_ok=True)
        link.symlink_to(unit.path)
        if "--now" in options:
            await self._service(name).start()
        return 0, ""

    async def _disable(self, name: str, options: set[str]) -> tuple[int, str]:
        find_unit(name)
        (WANTS / name).unlink(missing_ok=True)
        if "--now" in options:
            await self._service(name).stop()
        return 0, ""

    async def _is_active(self, name: str, _: set[str]) -> tuple[int, str]:
        state = self._services[name].state if name in self._services else "inactive"
        shown = "activating" if state == "auto-restart" else state
        return (0 if shown == "active" else 3), shown

    async def _is_failed(self, name: str, _: set[str]) -> tuple[int, str]:
        state = self._services[name].state if name in self._services else "inactive"
        return (0 if state == "failed" else 1), state

    async def _is_enabled(self, name: str, _: set[str]) -> tuple[int, str]:
        find_unit(name)
        return (0, "enabled") if (WANTS / name).is_symlink() else (1, "disabled")

    async def _reset_failed(self, name: str, _: set[str]) -> tuple[int, str]:
        if name in self._services and self._services[name].state == "failed":
            del self._services[name]
        return 0, ""

    async def _status(self, name: str, _: set[str]) -> tuple[int, str]:
        service = self._service(name)
        lines = [f"{name} - {service.unit.description}", f"     Loaded: {service.unit.path}"]
        lines.append(f"     Active: {service.state} (result: {service.result})")
        if service.main_pid:
            lines.append(f"   Main PID: {service.main_pid}")
        if service.log.exists():
            lines += ["", *service.log.read_text(errors="replace").splitlines()[-10:]]
        return (0 if service.state == "active" else 3), "\n".join(lines)


def _others() -> bool:
    """Is there a process beside PID 1?"""
    return any(entry.isdigit() and entry != "1" for entry in os.listdir("/proc"))


def say(sentence: str) -> None:
    """One line on the VM's console, with seconds since the boot of the machine."""
    print(f"[{time.monotonic():.3f}] init: {sentence}", flush=True)


def main() -> int:
    os.chdir("/")
    return asyncio.run(Init().run())
