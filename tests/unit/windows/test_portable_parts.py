"""What a Windows node would load of the agent needs nothing that only Unix has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.windows_parts import AGENT, LINUX_PARTS, LINUX_PARTS_OF_THE_ENGINE, TYPED_FOR_LINUX, needs_linux, portable

# Need a FUSE library to be imported; tests/windows imports them with a stand-in for one.
ON_A_FUSE_LIBRARY = {"mirror_agent.mirror.front_library_calls", "mirror_agent.mirror.front_winfsp_calls"}
PROGRAM = Path(__file__).with_name("blocked_imports.py")


def imports(*modules: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *modules], cwd=AGENT, capture_output=True, text=True, timeout=120
    )


def test_every_portable_module_is_imported_without_what_only_unix_has() -> None:
    wanted = sorted(set(portable()) - ON_A_FUSE_LIBRARY)
    assert {
        "mirror_agent.cli",
        "mirror_agent.net.control_plane",
        "mirror_agent.app.runner",
        "mirror_agent.platform.windows",
    } <= set(wanted)
    done = imports(*wanted)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_module_that_needs_unix_is_noticed() -> None:
    done = imports("mirror_agent.mirror.process_linux", "mirror_agent.mirror.syscalls")
    assert done.returncode == 1
    assert "there is no resource on Windows" in done.stdout
    assert "ctypes.CDLL(None)" in done.stdout


def test_the_list_of_linux_parts_names_what_there_is() -> None:
    assert [module for module in LINUX_PARTS if not (AGENT / f"{module.replace('.', '/')}.py").exists()] == []
    engine = [AGENT / "mirror_agent" / "mirror" / f"{name}.py" for name in LINUX_PARTS_OF_THE_ENGINE]
    assert [file for file in engine if not file.exists()] == []
    assert set(portable()) >= TYPED_FOR_LINUX
    assert needs_linux("mirror_agent.mirror.mounts_linux")
    assert not needs_linux("mirror_agent.mirror.engine")
