"""Run as a program: imports modules as a Windows node would, as far as Linux can show it; prints those that fail.

Everything of the standard library and of other packages is imported first, as on Linux. Then `sys.platform` says win32,
the modules that only Unix has cannot be imported any more, what only Unix has is gone from `os`, `socket`, `signal` and
`time`, and what only Windows has of `os` and `signal` is there as far as a module may touch it when it is imported.
Not shown by this: what Windows answers to the calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import importlib.abc
import importlib.machinery
import logging.handlers
import os
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Sequence
from types import ModuleType

import aiohttp.web
import azure.data.tables.aio
import cryptography.x509
import mfusepy
import psutil
import pydantic

UNIX_MODULES = frozenset(
    {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "posix", "crypt", "spwd", "_posixsubprocess"}
)
GONE = {
    os: """O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_PATH O_DSYNC O_SYNC fork forkpty setsid getuid geteuid getgid
        killpg chown lchown fchown mknod mkfifo statvfs fstatvfs pread pwrite readv writev preadv pwritev sync syncfs
        pidfd_open pipe2 memfd_create eventfd getxattr setxattr listxattr removexattr major minor makedev WNOHANG
        posix_fallocate posix_fadvise copy_file_range sendfile sched_setscheduler setpriority""",
    socket: "AF_UNIX AF_NETLINK SOCK_NONBLOCK SOCK_CLOEXEC SO_PEERCRED TCP_USER_TIMEOUT",
    signal: """SIGKILL SIGSTOP SIGCONT SIGCHLD SIGHUP SIGUSR1 SIGUSR2 SIGPIPE SIGXFSZ SIGALRM pidfd_send_signal
        pthread_sigmask set_wakeup_fd""",
    time: "clock_gettime CLOCK_BOOTTIME CLOCK_MONOTONIC CLOCK_REALTIME",
    asyncio: "start_unix_server open_unix_connection",
}
THERE: dict[ModuleType, dict[str, object]] = {
    os: {"O_BINARY": 0x8000, "O_NOINHERIT": 0x80},
    signal: {"SIGBREAK": signal.Signals.SIGUSR1},
    psutil: {"CONN_DELETE_TCB": "DELETE_TCB"},
}
# These exist for Windows only; `make windows` imports the real ones.
PYWIN32 = (
    "msvcrt",
    "pywintypes",
    "servicemanager",
    "win32api",
    "win32con",
    "win32job",
    "win32service",
    "win32serviceutil",
)
OTHERS = (aiohttp.web, azure.data.tables.aio, cryptography.x509, mfusepy, psutil, pydantic, logging.handlers)


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in UNIX_MODULES:
            raise ModuleNotFoundError(f"there is no {name} on Windows", name=name)
        return None


class Anything(ModuleType):
    """Whatever is asked for at import: a class of that name."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


def refuse(*_: object, **__: object) -> None:
    raise OSError("ctypes.CDLL(None) has no meaning on Windows")


def become_windows() -> None:
    sysconfig.get_config_vars()  # read once, by the platform it is
    for module, names in GONE.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    for module, values in THERE.items():
        for name, value in values.items():
            setattr(module, name, value)
    for name in UNIX_MODULES:
        sys.modules.pop(name, None)
    for name in PYWIN32:
        sys.modules[name] = Anything(name)
    sys.meta_path.insert(0, Blocked())
    ctypes.WinDLL = lambda *_, **__: Anything("library")  # type: ignore[attr-defined]
    ctypes.CDLL = refuse  # type: ignore[assignment,misc]
    sys.platform = "win32"


def main() -> int:
    become_windows()
    failed = 0
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it would end the agent on Windows
            failed += 1
            print(f"{name}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
