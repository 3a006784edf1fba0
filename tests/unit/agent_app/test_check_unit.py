"""The systemd variant of the process test, with a `systemctl` that says what the test wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror_agent.app.check_unit import UnitCheck, unit_processes
from mirror_agent.contract import Checker, CheckerKind


def unit(timeout_s: float = 10.0) -> Checker:
    return Checker(name="database", kind=CheckerKind.PROCESS, unit="postgresql@15-main.service", timeout_s=timeout_s)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "systemctl"


def says(systemctl: Path, script: str) -> None:
    systemctl.write_text(f"#!/bin/sh\n{script}\n")
    systemctl.chmod(0o700)


async def test_an_active_unit_is_healthy(systemctl: Path) -> None:
    says(systemctl, 'echo active; [ "$*" = "is-active postgresql@15-main.service" ]')
    finding = await UnitCheck(unit())()
    assert (finding.healthy, finding.message) == (True, "postgresql@15-main.service is active")


@pytest.mark.parametrize("state", ["inactive", "failed", "activating"])
async def test_any_other_is_not(systemctl: Path, state: str) -> None:
    says(systemctl, f"echo {state}; exit 3")
    finding = await UnitCheck(unit())()
    assert (finding.healthy, finding.message) == (False, f"postgresql@15-main.service is {state}")


async def test_no_answer_is_a_failure(systemctl: Path) -> None:
    says(systemctl, "exec /bin/sleep 600")
    finding = await UnitCheck(unit(timeout_s=0.05))()
    assert (finding.healthy, "did not answer" in finding.message) == (False, True)


async def test_without_systemd(systemctl: Path) -> None:
    finding = await UnitCheck(unit())()
    assert (finding.healthy, "cannot run" in finding.message) == (False, True)


def test_the_units_processes_are_watched(tmp_path: Path) -> None:
    (tmp_path / "web.service").mkdir()
    (tmp_path / "web.service/cgroup.procs").write_text("12\n345\n")
    assert unit_processes("web.service", tmp_path) == (12, 345)
    assert unit_processes("other.service", tmp_path) == ()
