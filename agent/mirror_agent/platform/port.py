"""What the agent asks of the operating system it runs on, in one port.

Problem: a node runs on Linux or on Windows, and the parts that decide, talk and report must not know which.
Guarantee: every difference between the two that these parts can meet is a member of `Host`; `posix` and `windows` are
its two forms, and `mirror_agent.platform` chooses one at import.
Limits: what only the application's processes need is chosen by `platform.application`, so that `mirrorctl` need not
load it.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # `mirrorctl` answers without an event loop
    import asyncio

    Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FenceFailed(Exception):
    """The machine is still running; the message says what refused."""


class Stranger(Exception):
    """Somebody who may not talk to the agent; the message is meant for him."""

    def __init__(self, who: str, message: str) -> None:
        super().__init__(message)
        self.who = who


@dataclass(frozen=True)
class Layout:
    """Directories of the agent below the root of a node, as relative paths."""

    config_dir: str
    state_dir: str
    run_dir: str
    log_dir: str
    module_dir: str


@dataclass(frozen=True)
class Room:
    """Of one file system; `free_bytes` is what an ordinary user may still take."""

    total_bytes: int
    free_bytes: int
    read_only: bool

    @property
    def free_percent(self) -> float:
        return 100.0 * self.free_bytes / self.total_bytes if self.total_bytes else 0.0


class Processes(Protocol):
    """The processes of this machine, for checkers. Reading them may wait: not for an event loop."""

    def living(self) -> list[int]: ...

    def below(self, root: int) -> list[int]:
        """What a process has started, and what that has started."""
        ...

    def command_line(self, pid: int) -> str:
        """ "" for a process that is gone or hides it."""
        ...

    def watch_death(self, pid: int, died: Callable[[], None]) -> Callable[[], None]:
        """Has `died` called in the running loop when the process ends; the answer ends that. ProcessLookupError."""
        ...

    def kill_below(self, root: int) -> None: ...

    def kill_session(self, leader: int) -> None:
        """A process that was started in a session of its own, and what is left of that session."""
        ...


class Host(Protocol):
    """One operating system. Whatever it cannot do raises OSError."""

    @property
    def NAME(self) -> Literal["linux", "windows"]:
        """As the configuration calls it."""
        ...

    @property
    def ROOT(self) -> Path: ...

    @property
    def LAYOUT(self) -> Layout: ...

    @property
    def CLOSED_OPEN_FLAGS(self) -> int:
        """For `os.open` of a file of ours: bytes as they are, never through a link, never waiting for a reader."""
        ...

    @property
    def CA_BUNDLES(self) -> Sequence[Path]:
        """Files of trusted authorities beside OpenSSL's own; only administrators may write them."""
        ...

    def now_s(self) -> float:
        """Seconds since an arbitrary start; never goes back, counts the time the machine was suspended."""
        ...

    def boot_id(self) -> str:
        """Another text after every start of the machine, the same until then."""
        ...

    def sync_all(self) -> None:
        """Flushes every file system that the node's state and data may lie on."""
        ...

    def make_private(self, directory: Path) -> None:
        """Takes away everybody's access to a directory but the agent's and the administrators'."""
        ...

    def restrict(self, descriptor: int, mode: int) -> None:
        """Gives an open file its mode, where files have one; elsewhere its directory (`make_private`) guards it."""
        ...

    def flush_directory(self, directory: Path) -> None:
        """Makes names in the directory durable."""
        ...

    def room(self, directory: Path) -> Room: ...

    def restart_machine(self) -> None:
        """At once, without orderly stops; does not return on a machine that obeys. Raises `FenceFailed`."""
        ...

    def fence_impediment(self) -> str:
        """Why this node could not restart its machine; "" if it could."""
        ...

    def each_connection(
        self,
        listener: socket.socket,
        took: Callable[[socket.socket, tuple[str, int]], None],
        failed: Callable[[OSError], None],
    ) -> Callable[[], None]:
        """Has the running loop accept on `listener` (IPv4, non-blocking) until the answer is called; `failed` when it
        cannot."""
        ...

    def on_stop(self, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        """Has `leave` called in the loop when the service manager, or a person at the terminal, wants the agent to
        end."""
        ...

    def notification_socket(self) -> socket.socket:
        """A datagram socket for the words of sd_notify(3)."""
        ...

    async def serve_local(self, path: Path, accept: Accept, *, limit: int) -> asyncio.Server:
        """The agent's own line for this machine. RuntimeError if a living agent answers there already."""
        ...

    async def local_caller(self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Who calls on that line, for the records. Raises `Stranger`."""
        ...

    def listen_local(self, path: Path) -> socket.socket:
        """A line of the same kind for a program of ours that has no event loop; what was at `path` is gone. It only
        listens: `accept_local` tells who may come in."""
        ...

    def accept_local(self, path: Path, listening: socket.socket) -> socket.socket:
        """Waits for the next caller who may come in."""
        ...

    def connect_local(self, path: Path, timeout_s: float) -> socket.socket:
        """A connection to `serve_local` or `listen_local`, introduced. Raises FileNotFoundError, ConnectionError,
        PermissionError."""
        ...

    def shell(self, command: str) -> Sequence[str]:
        """The argument vector that runs a command of the configuration."""
        ...

    @property
    def SCRIPT_SUFFIX(self) -> str:
        """Of a script of the configuration, as a file."""
        ...

    def script(self, file: Path) -> Sequence[str]:
        """The argument vector that runs such a file."""
        ...

    def script_bytes(self, text: str) -> bytes:
        """The content of such a file."""
        ...

    def script_environment(self) -> Mapping[str, str]:
        """What every script and command of the configuration sees beside the configuration's own variables."""
        ...

    def has_mode(self, file: Path, mode: int) -> bool:
        """True where files have none."""
        ...

    @property
    def ENVIRONMENT_PYTHON(self) -> str:
        """The interpreter of a virtual environment, below its directory."""
        ...

    def behind_others(self, command: Sequence[str]) -> Sequence[str]:
        """The same command, run when others leave it time, where a command can say so."""
        ...

    def hold_children(self) -> None:
        """From now on, what this process starts ends with it, however it ends."""
        ...

    def watch_itself(self, limit_s: float) -> None:
        """Each call gives this process so long until the next one; where the service manager does not watch over it, a
        process that misses that ends, and says where each of its threads stood. 0 ends the watch."""
        ...
