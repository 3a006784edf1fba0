"""`Host` on Linux."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror_agent.platform.port import Layout, Room, Stranger
from mirror_agent.platform.posix_reboot import fence_impediment as fence_impediment
from mirror_agent.platform.posix_reboot import restart_machine as restart_machine

if TYPE_CHECKING:  # `mirrorctl` answers without an event loop
    import asyncio

    from mirror_agent.platform.port import Accept

assert sys.platform != "win32"

NAME: Final = "linux"
ROOT: Final = Path("/")
LAYOUT: Final = Layout(
    config_dir="etc/mirrorplane",
    state_dir="var/lib/mirrorplane",
    run_dir="run/mirrorplane",
    log_dir="var/log/mirrorplane",
    module_dir="opt/mirrorplane/module",
)
CLOSED_OPEN_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# Distributions keep the administrator's trusted CAs in one file; OpenSSL's default may be the hashed directory only.
CA_BUNDLES: Final = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_PRIVATE_MODE: Final = 0o700


def now_s() -> float:
    # CLOCK_MONOTONIC stands still while a machine sleeps; a deadline measured on it would be believed after a freeze.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    return BOOT_ID_FILE.read_text(encoding="ascii").strip()


def sync_all() -> None:
    os.sync()


def make_private(directory: Path) -> None:
    directory.chmod(_PRIVATE_MODE)


def restrict(descriptor: int, mode: int) -> None:
    os.fchmod(descriptor, mode)


def flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room(directory: Path) -> Room:
    found = os.statvfs(directory)
    return Room(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def each_connection(
    listener: socket.socket,
    took: Callable[[socket.socket, tuple[str, int]], None],
    failed: Callable[[OSError], None],
) -> Callable[[], None]:
    import asyncio

    loop = asyncio.get_running_loop()

    def accept() -> None:
        try:
            client, source = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            failed(error)
            return
        took(client, source)

    loop.add_reader(listener, accept)
    return lambda: _stop_reading(loop, listener)


def _stop_reading(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    loop.remove_reader(listener)


def on_stop(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)


def notification_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def serve_local(path: Path, accept: Accept, *, limit: int) -> asyncio.Server:
    """A Unix socket of mode 0600."""
    import asyncio

    _remove_stale(path)
    listener = _bound(path)
    listener.setblocking(False)
    return await asyncio.start_unix_server(accept, sock=listener, limit=limit)


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def listen_local(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = _bound(path)
    listener.listen(1)
    return listener


def accept_local(path: Path, listening: socket.socket) -> socket.socket:
    """Whoever may open the socket's file."""
    return listening.accept()[0]


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise RuntimeError(f"another agent answers on {path}; stop it first: systemctl stop mirrorplane-agent")


async def local_caller(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The kernel's word on the caller (SO_PEERCRED)."""
    connection = writer.get_extra_info("socket")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (0, os.getuid()):
        raise Stranger(f"uid {uid}", "only root may talk to the agent; use sudo")
    return f"uid {uid}"


def connect_local(path: Path, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
    except PermissionError:
        connection.close()
        raise PermissionError(f"{path} is root's; use sudo") from None
    except BaseException:
        connection.close()
        raise
    return connection


def shell(command: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", command


SCRIPT_SUFFIX: Final = ".sh"
_SCRIPT_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


def script(file: Path) -> tuple[str, ...]:
    return "/bin/sh", "-eu", str(file)


def script_bytes(text: str) -> bytes:
    return text.encode()


def script_environment() -> Mapping[str, str]:
    return _SCRIPT_ENVIRONMENT


def has_mode(file: Path, mode: int) -> bool:
    return file.stat().st_mode & 0o7777 == mode


def watch_itself(limit_s: float) -> None:
    """systemd does (WatchdogSec), see `node.keepalive`."""


ENVIRONMENT_PYTHON: Final = "bin/python"
_NICENESS: Final = "10"  # the application comes first, but it must end on a busy machine too


def behind_others(command: Sequence[str]) -> tuple[str, ...]:
    return "nice", "-n", _NICENESS, *command


def hold_children() -> None:
    """The mirror's engine and the runner child ask the kernel themselves (PR_SET_PDEATHSIG)."""
