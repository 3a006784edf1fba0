"""`Host` on Windows Server 2022 and later.

Files of the agent lie below `%ProgramData%\\Mirrorplane`; the bootstrap and `make_private` give that directory to
SYSTEM and the administrators, and everything in it inherits that, so files need no mode of their own. `windows_line` is
what stands for a Unix socket.
Limits: run on Wine, never on Windows (docs/windows.md). The system calls are behind functions, so that the module can
be imported, and what does not need them be tested, elsewhere.
Sources: Microsoft Learn, the pages of the functions called (QueryInterruptTime, InitiateSystemShutdownExW,
SetFileSecurityW, RegCreateKeyExW with REG_OPTION_VOLATILE, FlushFileBuffers of a volume).
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mirror_agent.platform.port import FenceFailed, Layout, Room
from mirror_agent.platform.windows_line import accept_local as accept_local
from mirror_agent.platform.windows_line import connect_local as connect_local
from mirror_agent.platform.windows_line import listen_local as listen_local
from mirror_agent.platform.windows_line import local_caller as local_caller
from mirror_agent.platform.windows_line import serve_local as serve_local

if TYPE_CHECKING:
    import asyncio

assert sys.platform == "win32", "this form of Host is for Windows"

NAME: Final = "windows"
ROOT: Final = Path(os.environ.get("ProgramData", "C:\\ProgramData")) / "Mirrorplane"  # noqa: SIM112 - Windows' spelling
LAYOUT: Final = Layout(
    config_dir="config", state_dir="state", run_dir="run", log_dir="log", module_dir="module"
)  # fmt: skip
CLOSED_OPEN_FLAGS: Final = os.O_BINARY | os.O_NOINHERIT
# The system's own store only: what lies at a fixed path on C: may be anybody's.
CA_BUNDLES: Final[tuple[Path, ...]] = ()
# Nobody but SYSTEM and the administrators, inherited by all below, nothing inherited from above.
_PRIVATE_SDDL: Final = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
_DACL_SECURITY_INFORMATION: Final = 4
_PROTECTED_DACL: Final = 0x80000000
_BOOT_KEY: Final = "SOFTWARE\\Mirrorplane\\Boot"
_REG_OPTION_VOLATILE: Final = 1
_KEY_ALL_ACCESS: Final = 0xF003F
_HKEY_LOCAL_MACHINE: Final = 0x80000002
_GENERIC_WRITE: Final = 0x40000000
_SHARE_ALL: Final = 7
_OPEN_EXISTING: Final = 3
# ERROR_INVALID_FUNCTION, ERROR_WRITE_PROTECT, ERROR_NOT_READY: a drive that keeps nothing back (Wine's say the first).
_NOT_TO_FLUSH: Final = frozenset({1, 19, 21})
_INVALID_HANDLE: Final = ctypes.c_void_p(-1).value
_PRIVILEGE: Final = "SeShutdownPrivilege"
_leaving: Final[list[Callable[[], None]]] = []


def _library(name: str) -> Any:
    return ctypes.WinDLL(name, use_last_error=True)


def _failed(what: str) -> OSError:
    number = ctypes.get_last_error()
    return OSError(None, f"{what}: {ctypes.FormatError(number).strip()}", None, number)


def now_s() -> float:
    return _clock()()


@functools.cache
def _clock() -> Callable[[], float]:
    """Interrupt time goes on while the machine sleeps or is frozen; its "unbiased" sister and some counters do not.
    Where the precise form is missing (Wine), the same time is had in steps of some milliseconds."""
    try:
        query = _library("KernelBase").QueryInterruptTimePrecise
    except AttributeError:
        count = _library("kernel32").GetTickCount64
        count.restype = ctypes.c_ulonglong
        return lambda: float(count()) / 1000.0

    def precise() -> float:
        ticks = ctypes.c_ulonglong()
        query(ctypes.byref(ticks))
        return ticks.value / 10_000_000

    return precise


def boot_id() -> str:
    """A text kept in a volatile key of the registry, which ends with the boot."""
    import winreg

    registry = _library("advapi32")
    key = ctypes.c_void_p()
    code = registry.RegCreateKeyExW(
        ctypes.c_void_p(_HKEY_LOCAL_MACHINE), _BOOT_KEY, 0, None, _REG_OPTION_VOLATILE, _KEY_ALL_ACCESS, None,
        ctypes.byref(key), None,
    )  # fmt: skip
    if code != 0:
        raise OSError(None, f"HKLM\\{_BOOT_KEY} cannot be made: {ctypes.FormatError(code).strip()}", None, code)
    registry.RegCloseKey(key)
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _BOOT_KEY, 0, winreg.KEY_ALL_ACCESS) as opened:
        try:
            found, _ = winreg.QueryValueEx(opened, "Id")
        except FileNotFoundError:
            found = str(uuid.uuid4())
            winreg.SetValueEx(opened, "Id", 0, winreg.REG_SZ, found)
    return str(found)


def sync_all() -> None:
    """Every fixed volume that has a letter."""
    kernel = _library("kernel32")
    kernel.CreateFileW.restype = ctypes.c_void_p
    for letter in os.listdrives() if sys.version_info >= (3, 12) else [ROOT.drive + "\\"]:
        name = "\\\\.\\" + letter.rstrip("\\")
        handle = kernel.CreateFileW(name, _GENERIC_WRITE, _SHARE_ALL, None, _OPEN_EXISTING, 0, None)
        if handle == _INVALID_HANDLE:
            continue  # a drive without a medium, or one that may not be written
        try:
            if not kernel.FlushFileBuffers(ctypes.c_void_p(handle)) and ctypes.get_last_error() not in _NOT_TO_FLUSH:
                raise _failed(f"FlushFileBuffers {name}")
        finally:
            kernel.CloseHandle(ctypes.c_void_p(handle))


def make_private(directory: Path) -> None:
    security = _library("advapi32")
    descriptor = ctypes.c_void_p()
    if not security.ConvertStringSecurityDescriptorToSecurityDescriptorW(
        _PRIVATE_SDDL, 1, ctypes.byref(descriptor), None
    ):
        raise _failed("ConvertStringSecurityDescriptorToSecurityDescriptorW")
    try:
        wanted = _DACL_SECURITY_INFORMATION | _PROTECTED_DACL
        if not security.SetFileSecurityW(str(directory), ctypes.c_uint(wanted), descriptor):
            raise _failed(f"SetFileSecurityW {directory}")
    finally:
        _library("kernel32").LocalFree(descriptor)


def restrict(descriptor: int, mode: int) -> None:
    """Its directory guards it."""


def flush_directory(directory: Path) -> None:
    """NTFS keeps names in its journal, in order; there is no call for one directory."""


def room(directory: Path) -> Room:
    """Whether a volume may be written is found out by writing (the checker does)."""
    found = shutil.disk_usage(directory)
    return Room(total_bytes=found.total, free_bytes=found.free, read_only=False)


def restart_machine() -> None:
    security = _library("advapi32")
    _take_privilege(security)
    # Nobody is asked, nothing waits, and the reason is "other, unplanned" (0).
    if not security.InitiateSystemShutdownExW(None, "Mirrorplane fences this node", 0, True, True, 0):
        raise FenceFailed(str(_failed("InitiateSystemShutdownExW")))


def _take_privilege(security: Any) -> None:
    """A process must switch the right on before it is used."""

    class Privileges(ctypes.Structure):
        _fields_ = (("count", ctypes.c_uint32), ("luid", ctypes.c_int64), ("attributes", ctypes.c_uint32))
        _pack_ = 4

    kernel = _library("kernel32")
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    token = ctypes.c_void_p()
    adjust_and_query, enabled = 0x28, 0x2
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not security.OpenProcessToken(process, adjust_and_query, ctypes.byref(token)):
        raise FenceFailed(str(_failed("OpenProcessToken")))
    try:
        luid = ctypes.c_int64()
        if not security.LookupPrivilegeValueW(None, _PRIVILEGE, ctypes.byref(luid)):
            raise FenceFailed(str(_failed("LookupPrivilegeValueW")))
        wanted = Privileges(1, luid.value, enabled)
        ctypes.set_last_error(0)
        if not security.AdjustTokenPrivileges(token, False, ctypes.byref(wanted), 0, None, None):
            raise FenceFailed(str(_failed("AdjustTokenPrivileges")))
        if ctypes.get_last_error():  # ERROR_NOT_ALL_ASSIGNED comes with success
            raise FenceFailed(f"the agent lacks {_PRIVILEGE}; run it as LocalSystem")
    finally:
        kernel.CloseHandle(token)


def fence_impediment() -> str:
    try:
        _take_privilege(_library("advapi32"))
    except FenceFailed as error:
        return f"{error}: an application that cannot be killed would stay"
    return ""


def each_connection(
    listener: socket.socket,
    took: Callable[[socket.socket, tuple[str, int]], None],
    failed: Callable[[OSError], None],
) -> Callable[[], None]:
    """The loop of Windows knows completed calls, not descriptors that are ready."""
    import asyncio

    async def accept() -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, source = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                failed(error)
                return
            took(client, source)

    accepting = asyncio.create_task(accept(), name="accept")

    def stop() -> None:
        accepting.cancel()

    return stop


def on_stop(loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
    """The word of the service control manager (`ask_to_stop`) and, at a terminal, Ctrl+C and Ctrl+Break."""

    def ask() -> None:
        loop.call_soon_threadsafe(leave)

    _leaving.append(ask)
    if threading.current_thread() is threading.main_thread():  # a service runs in a thread of the dispatcher
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, lambda _number, _frame: ask())


def ask_to_stop() -> None:
    """From any thread: the agent of this process is to leave."""
    for ask in _leaving:
        ask()


def notification_socket() -> socket.socket:
    raise OSError("there is no sd_notify(3) on Windows; unset NOTIFY_SOCKET")


def shell(command: str) -> tuple[str, ...]:
    return "cmd.exe", "/d", "/s", "/c", command


SCRIPT_SUFFIX: Final = ".cmd"
_KEPT_VARIABLES: Final = (
    "ALLUSERSPROFILE", "COMPUTERNAME", "ComSpec", "NUMBER_OF_PROCESSORS", "OS", "PATH", "PATHEXT", "ProgramData",
    "ProgramFiles", "ProgramFiles(x86)", "PUBLIC", "SystemDrive", "SystemRoot", "TEMP", "TMP", "windir",
)  # fmt: skip


def script(file: Path) -> tuple[str, ...]:
    """`/d`: nothing that somebody has put into cmd's AutoRun."""
    return "cmd.exe", "/d", "/c", str(file)


def script_bytes(text: str) -> bytes:
    """cmd.exe loses its place at labels when lines end as on Unix."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def script_environment() -> dict[str, str]:
    """What programs of Windows cannot do without, as this process has it."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def has_mode(file: Path, mode: int) -> bool:
    return True


ENVIRONMENT_PYTHON: Final = "Scripts\\python.exe"


def behind_others(command: Sequence[str]) -> tuple[str, ...]:
    return tuple(command)


def hold_children() -> None:
    """A job object around this process and all it starts; its only handle goes with this process."""
    from mirror_agent.platform.windows_jobs import Job  # not for `mirrorctl`

    job = Job()
    job.put(os.getpid())
    job.keep()


def watch_itself(limit_s: float) -> None:
    """A thread of the interpreter's own, which needs no lock of it, ends the process; the service manager starts it
    again (failure actions)."""
    import faulthandler

    if limit_s > 0:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__ or sys.stderr)
    else:
        faulthandler.cancel_dump_traceback_later()
