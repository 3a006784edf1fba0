"""What tests say that run on Linux and, by `make windows`, on Windows: the same facts look different there."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

WINDOWS = sys.platform == "win32"
SERVICE_QUERY = f"{'sc.exe query' if WINDOWS else 'systemctl status'} mirrorplane-agent"
# Whoever calls the agent's own interface: a user on Linux, always an administrator on Windows.
CALLER = "administrator" if WINDOWS else "uid "
NO_SUCH_FILE = ("File not found", "Path not found", "cannot find", "No such file") if WINDOWS else ("No such file",)

needs_unix_sockets = pytest.mark.skipif(WINDOWS, reason="a socket of Unix; Windows has a port of the loopback")
needs_early_resets = pytest.mark.skipif(WINDOWS, reason="Wine shows a reset right after connecting as an end")
needs_visible_links = pytest.mark.skipif(WINDOWS, reason="Wine shows a link of Unix as what it points to")
needs_terminal = pytest.mark.skipif(WINDOWS, reason="a terminal of Unix")


def assert_private(path: Path) -> None:
    """Nobody else may read it. On Windows a file inherits that from its directory (tests/windows/test_platform.py)."""
    if not WINDOWS:
        found = stat.S_IMODE(path.stat().st_mode)
        assert found == (0o700 if path.is_dir() else 0o600), f"{path} has mode {found:o}"
