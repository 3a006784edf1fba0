"""`make windows`: the agent's tests that mean something on Windows, run there by the Windows Python on Wine.

Two runs, each counted by pytest itself: the portable unit tests of the agent (those below PORTABLE; LEFT_OUT says which
are not, and why), and tests/windows, which is written for Windows. Everything happens in a network namespace of its
own where that is allowed, so that the agent's fixed ports meet nobody's; without root they have to be free.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import MappingProxyType
from typing import Final

from tools.windows.python import SOURCES, NotMade, ensure
from tools.windows.wine import ROOT, Wine, WineMissing, windows_path

_INSIDE: Final = "--inside"
PORTABLE: Final = ("agent_app", "agent_core", "agent_net", "agent_node", "agent_web", "farm")
"""Below tests/unit."""
SINGLE: Final = ("tests/unit/mirror/test_files.py",)
"""The suite that both forms of the engine's port to its copy have to pass."""
LEFT_OUT: Final = MappingProxyType(
    {
        "tests/unit/agent_app/test_check_unit.py": "asks systemd; tests/windows asks Windows' services",
        "tests/unit/agent_app/test_check_ping.py": "asks for the user's number of Unix when it is imported",
        "tests/unit/agent_app/test_checks.py": "commands of /bin/sh, /proc",
        "tests/unit/agent_app/test_checkers.py": "starts /bin/sleep",
        "tests/unit/agent_app/test_connections.py": "sock_diag; tests/windows reads the TCP table",
        "tests/unit/agent_app/test_processes.py": "/proc and pidfd",
        "tests/unit/agent_app/test_runner.py": "the runner child of Linux; tests/windows has its own",
        "tests/unit/agent_node/test_demotion.py": "destroys sockets by sock_diag",
        "tests/unit/agent_web/test_pair_and_plane.py": "asks the control plane, which does not run on Windows",
    }
)
"""File → why."""


def _arguments(*words: str) -> list[str]:
    # The conftest of tests/ prepares the lab, which is Linux.
    return ["-m", "pytest", "--noconftest", "-p", "no:cacheprovider", "-q", *words]


def _selected(folder: str) -> list[str]:
    files = sorted((ROOT / "tests/unit" / folder).glob("test_*.py"))
    return [name for name in (str(file.relative_to(ROOT)) for file in files) if name not in LEFT_OUT]


def run(only: list[str]) -> int:
    """Without words, both runs; else pytest's words."""
    executable = ensure()
    portable = [*(file for folder in PORTABLE for file in _selected(folder)), *SINGLE]
    runs = [only] if only else [portable, ["tests/windows"]]
    found = {
        "PYTHONPATH": ";".join(windows_path(ROOT / part) for part in SOURCES),
        "PYTHONPYCACHEPREFIX": "C:\\compiled",  # beside the sources lie those of Linux
    }
    worst = 0
    with Wine("tests") as wine:
        for words in runs:
            code = wine.pass_through(wine.command(executable, _arguments(*words)), more=found)
            worst = worst or code
    if not only:
        for file, why in LEFT_OUT.items():
            print(f"not run: {file}: {why}")
    return worst


def _again_in_a_namespace(words: list[str]) -> int:
    command = [sys.executable, "-m", "tools.windows.tests", _INSIDE, *words]
    if os.getuid() == 0:
        command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> int:
    words = sys.argv[1:]
    try:
        if words[:1] == [_INSIDE]:
            return run(words[1:])
        ensure()  # the registry is not reachable from inside
        return _again_in_a_namespace(words)
    except (NotMade, WineMissing) as error:
        print(f"windows: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
