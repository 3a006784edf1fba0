"""The parts of the agent that a Windows node may load, as modules; `--files` for the type checker.

Everything not named here must pass mypy with `--platform win32` (`make lint`) and must be importable where what only
Unix has is missing (tests/unit/windows). A new module is therefore checked from its first day; one that needs Linux has
to be put into this list, with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

AGENT: Final = Path(__file__).resolve().parents[1] / "agent"

LINUX_PARTS: Final = MappingProxyType(
    {
        "mirror_agent.platform.posix": "the Linux form of the port",
        "mirror_agent.platform.posix_processes": "the Linux form of the port",
        "mirror_agent.platform.posix_reboot": "the Linux form of the port",
        "mirror_agent.app.processes": "walks /proc, signals through pidfd",
        "mirror_agent.app.reaper": "a subreaper: fork, wait, prctl",
        "mirror_agent.app.runner_child": "starts the reaper over a pair of Unix sockets",
        "mirror_agent.app.sock_diag": "sock_diag over netlink",
        "mirror_agent.app.check_unit": "asks systemd",
        "mirror_agent.node.mirror_operations": "the engine's quarantine, locked by flock",
    }
)
"""Module → why."""
LINUX_PARTS_OF_THE_ENGINE: Final = MappingProxyType(
    {
        "syscalls": "calls of Linux",
        "mounts_linux": "the Linux form of the mounts",
        "process_linux": "the Linux form of the process",
    }
)
"""Module of mirror_agent.mirror → why."""
TYPED_FOR_LINUX: Final = frozenset(
    f"mirror_agent.mirror.{name}"
    for name in (
        *("estate", "front", "front_library"),  # loaded for the parts that are not only Linux'
        *("fuse_abi", "tree_copy", "tree_entry", "front_names", "replica_resync", "replica_verify", "verify"),
    )
)
"""Loaded on Windows, but with types of Linux: mostly os.stat_result, which `mirror.files` gives with the same fields on
both, and which the types of Python have fewer of on Windows."""


def needs_linux(module: str) -> bool:
    if module.startswith("mirror_agent.mirror."):
        return module.removeprefix("mirror_agent.mirror.") in LINUX_PARTS_OF_THE_ENGINE
    return module in LINUX_PARTS


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the agent with its file."""
    for file in sorted((AGENT / "mirror_agent").rglob("*.py")):
        yield ".".join(file.relative_to(AGENT).with_suffix("").parts).removesuffix(".__init__"), file


def portable() -> dict[str, Path]:
    return {module: file for module, file in modules() if not needs_linux(module)}


def typed() -> dict[str, Path]:
    """Those of the portable ones whose types must hold for Windows."""
    return {module: file for module, file in portable().items() if module not in TYPED_FOR_LINUX}


if __name__ == "__main__":
    print(*(typed().values() if "--files" in sys.argv else portable()), sep="\n")
