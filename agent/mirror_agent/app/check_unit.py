"""The `process` test by systemd unit: is the service active?

For applications whose `start_prim` hands the work to systemd. The unit's processes are read from its control group, so
that the death of one of them is an event and the test is made again at once.
Limits: `systemctl` answers within the checker's time-out, or the test has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from mirror_agent.app.finding import Finding
from mirror_agent.contract import Checker

_GROUPS: Final = Path("/sys/fs/cgroup/system.slice")
_MAX_OUTPUT_BYTES: Final = 4096


class UnitCheck:
    def __init__(self, checker: Checker) -> None:
        assert checker.unit is not None
        self._unit = checker.unit
        self._timeout_s = checker.timeout_s

    async def __call__(self) -> Finding:
        try:
            process = await asyncio.create_subprocess_exec(
                "systemctl",
                "is-active",
                self._unit,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            return Finding(False, f"systemctl cannot run: {error.strerror}")
        try:
            async with asyncio.timeout(self._timeout_s):
                assert process.stdout is not None
                said = (await process.stdout.read(_MAX_OUTPUT_BYTES)).decode(errors="replace").strip()
                code = await process.wait()
        except TimeoutError:
            return Finding(False, f"systemctl did not answer in {self._timeout_s:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code != 0:
            return Finding(False, f"{self._unit} is {said or 'unknown'}", unit_processes(self._unit))
        return Finding(True, f"{self._unit} is {said}", unit_processes(self._unit))


def unit_processes(unit: str, groups: Path = _GROUPS) -> tuple[int, ...]:
    """Processes of the unit's control group; empty where the kernel shows none (then nothing is watched)."""
    try:
        return tuple(int(word) for word in (groups / unit / "cgroup.procs").read_text().split())
    except OSError:
        return ()
