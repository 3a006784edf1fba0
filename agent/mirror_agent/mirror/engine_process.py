"""Starting the engine's process and reaching its control line, for the supervisor's side (`control`)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mirror_agent
from mirror_agent.platform import HOST

LINE_BYTES_MAX: Final = 64 * 1024
_CONNECT_S: Final = 5.0
# On Windows a mount ends with its process, so another engine has nothing to take over.
MOUNTS_OUTLIVE_ENGINES: Final = sys.platform != "win32"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def spawn(config_file: Path, socket_file: Path, inherited: Sequence[int]) -> asyncio.subprocess.Process:
    """`inherited`: the descriptors of the estate, none where `MOUNTS_OUTLIVE_ENGINES` is not so."""
    package_root = str(Path(mirror_agent.__file__).parents[1])
    environment = {**os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH"))))
    # A terminal's Ctrl-C must reach the supervisor only: it decides how the engine ends.
    apart: dict[str, Any]
    if sys.platform == "win32":
        import subprocess

        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    else:
        apart = {"start_new_session": True, "pass_fds": tuple(inherited)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mirror_agent.mirror",
        "--config",
        str(config_file),
        "--socket",
        str(socket_file),
        "--parent",
        str(os.getpid()),
        *(("--estate", *map(str, inherited)) if inherited else ()),
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
        **apart,
    )


async def open_line(path: Path) -> Line:
    """Raises FileNotFoundError or ConnectionRefusedError as long as the engine does not listen."""
    if sys.platform != "win32":
        return await asyncio.open_unix_connection(str(path), limit=LINE_BYTES_MAX)
    line = await asyncio.get_running_loop().run_in_executor(None, HOST.connect_local, path, _CONNECT_S)
    line.setblocking(False)
    return await asyncio.open_connection(sock=line, limit=LINE_BYTES_MAX)


def make_private(directory: Path) -> None:
    """Where a new directory's mode does not do it."""
    if sys.platform == "win32":
        HOST.make_private(directory)
