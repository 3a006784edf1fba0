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
        "mirror_agent.node.environments": "process groups, links to virtual environments",
        "mirror_agent.node.mirror_operations": "the engine's quarantine, locked by flock",
        "mirror_agent.supervisor": "drives a mirror engine",
    }
)
"""Module → why. The mirror engine has a list of its own: it is Linux but for these."""
PORTABLE_OF_THE_ENGINE: Final = frozenset(
    {"", "config", "counters", "limits", "liveness", "status", "verify_wire", "wire", "front_paths"}
)


def needs_linux(module: str) -> bool:
    if module == "mirror_agent.mirror" or module.startswith("mirror_agent.mirror."):
        return module.removeprefix("mirror_agent.mirror").removeprefix(".") not in PORTABLE_OF_THE_ENGINE
    return module in LINUX_PARTS


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the agent with its file."""
    for file in sorted((AGENT / "mirror_agent").rglob("*.py")):
        yield ".".join(file.relative_to(AGENT).with_suffix("").parts).removesuffix(".__init__"), file


def portable() -> dict[str, Path]:
    return {module: file for module, file in modules() if not needs_linux(module)}


if __name__ == "__main__":
    print(*(portable().values() if "--files" in sys.argv else portable()), sep="\n")
