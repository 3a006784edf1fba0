"""Wine for the tests: a prefix of its own below build/windows, and nothing of it left afterwards.

A prefix is one imaginary machine (registry, C:, services); each user of this module names his own, holds its lock while
he works, and ends its wineserver, with every process below it, also after a failure. Programs run without a screen and
without a terminal, with pipes for their three standard streams: Python for Windows would not start on anything else
that Wine offers.
Limits: Wine is not Windows. What it lacks is said in docs/windows.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build" / "windows"
PREFIX_TIMEOUT_S: Final = 300.0
RUN_TIMEOUT_S: Final = 3600.0
# What a program has left running may hold the pipe open after its end.
_LAST_WORDS_S: Final = 5.0
_SILENT: Final = "-all"
# Without these two Wine offers to download a browser engine and .NET at the first start of a prefix.
_NO_DOWNLOADS: Final = "mscoree,mshtml="


class WineMissing(RuntimeError):
    """The sentence names what is not installed and how to get it."""


class Wine:
    """One prefix: `with Wine("tests") as wine: wine.run([...])`."""

    def __init__(self, name: str) -> None:
        self.prefix = BUILD / f"prefix-{name}"
        self._lock: IO[str] | None = None
        self._wine = shutil.which("wine-stable") or shutil.which("wine") or ""
        if not self._wine:
            raise WineMissing("wine is not installed: apt-get install wine wine64")

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "WINEDEBUG")}
        return {
            "WINEDEBUG": _SILENT,
            "WINEDLLOVERRIDES": _NO_DOWNLOADS,
            **given,
            "WINEPREFIX": str(self.prefix),
            **(more or {}),
        }

    def __enter__(self) -> Wine:
        BUILD.mkdir(parents=True, exist_ok=True)
        self._lock = open(f"{self.prefix}.lock", "w", encoding="ascii")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            if not (self.prefix / "system.reg").exists():
                self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _make(self) -> None:
        """A fresh machine that says it is Windows 10, the oldest version Python 3.13 knows."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        self.run([self._wine, "wineboot", "--init"], timeout_s=PREFIX_TIMEOUT_S, check=True)
        self.run([self._wine, "winecfg", "-v", "win10"], timeout_s=PREFIX_TIMEOUT_S, check=True)
        self._server("-w")  # until the registry is on the disk

    def _end(self) -> None:
        self._server("-k")
        self._server("-w")
        self._kill_orphans()
        if self._lock is not None:
            self._lock.close()

    def _server(self, word: str) -> None:
        server = shutil.which("wineserver-stable") or shutil.which("wineserver") or "/usr/lib/wine/wineserver64"
        subprocess.run([server, word], env=self.environment(), check=False, capture_output=True, timeout=60)

    def _kill_orphans(self) -> None:
        """A wineserver that has crashed leaves programs that no other one knows."""
        mark = b"WINEPREFIX=" + os.fsencode(self.prefix)
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
                if mark in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                    os.kill(int(entry.parent.name), signal.SIGKILL)

    def command(self, program: Path | str, arguments: Sequence[str]) -> list[str]:
        return [self._wine, str(program), *arguments]

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        more: Mapping[str, str] | None = None,
        check: bool = False,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """What it said, both streams in one. Raises TimeoutExpired, and CalledProcessError with `check`."""
        return subprocess.run(
            command,
            env=self.environment(more),
            cwd=cwd,
            input="",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=check,
        )

    def start(
        self, command: Sequence[str], *, more: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """A program that runs on; its standard input is a pipe that stays open as long as the object."""
        return subprocess.Popen(
            command,
            env=self.environment(more),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def pass_through(self, command: Sequence[str], *, more: Mapping[str, str] | None = None) -> int:
        """Runs it with its output on ours, as it comes; its exit status. Ended after RUN_TIMEOUT_S, and when the
        wineserver has crashed."""
        process = self.start(command, more=more)
        assert process.stdin is not None
        process.stdin.close()
        limit = threading.Timer(RUN_TIMEOUT_S, process.kill)
        limit.start()
        copying = threading.Thread(target=_copy, args=(process,), daemon=True)
        copying.start()
        try:
            code = process.wait()
        finally:
            limit.cancel()
        copying.join(_LAST_WORDS_S)
        return code


def _copy(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        if "wineserver crashed" in line:
            process.kill()  # nobody would answer it any more


def windows_path(path: Path) -> str:
    """As programs in a prefix see a file of this machine."""
    return "Z:" + str(path.resolve()).replace("/", "\\")
