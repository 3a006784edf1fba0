"""Unit files: systemd's meaning for what is honoured, an error for what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.paths import REPOSITORY
from lab.vm.guest.unitfile import (
    Command,
    UnitError,
    expand_variables,
    parse_command,
    parse_duration_s,
    parse_unit,
    unit_name,
)

PATH = Path("/etc/systemd/system/x.service")


def test_the_agents_own_unit_is_understood() -> None:
    text = (REPOSITORY / "infra/vm/linux/mirrorplane-agent.service").read_text()
    unit = parse_unit("mirrorplane-agent.service", PATH, text)
    assert unit.restart == "always"
    assert unit.wanted_by == ("multi-user.target",)
    assert unit.requires_mounts == ("/data",)
    assert unit.timeout_start_s == float("inf")
    assert (unit.notify_access, unit.watchdog_s) == ("main", 60.0)


def test_directives_and_continuation_lines() -> None:
    unit = parse_unit(
        "x.service",
        PATH,
        '[Service]\nExecStart=/bin/echo \\\n  a "b c"\nEnvironment=A=1 "B=two words"\nKillMode=mixed\nUMask=0077\n'
        "ExecStartPre=-/bin/false\nTimeoutSec=5\nLimitNOFILE=10:20\nSuccessExitStatus=3\n",
    )
    assert unit.start == (Command(("/bin/echo", "a", "b c")),)
    assert unit.start_before == (Command(("/bin/false",), ignore_failure=True),)
    assert unit.environment == {"A": "1", "B": "two words"}
    assert (unit.kill_mode, unit.umask, unit.timeout_start_s, unit.timeout_stop_s) == ("mixed", 0o077, 5.0, 5.0)
    assert unit.limits == {"NOFILE": "10:20"}
    assert unit.success_statuses == {0, 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Service]\nExecStart=/bin/true\nExceStop=/bin/true\n", r"x.service:3: \[Service\] ExceStop="),
        ("[Service]\nExecStart=/bin/true\nRestart=sometimes\n", "Restart=sometimes is not supported"),
        ("[Socket]\n", r"section \[Socket\]"),
        ("[Service]\nExecStart=true\n", "absolute path"),
        ("[Service]\nExecStart=/bin/echo %i\n", "%-specifiers"),
        ("[Service]\nType=simple\n", "needs ExecStart="),
        ("[Service]\nWatchdogSec=often\n", "no time span"),
    ],
)
def test_unknown_words_are_errors_with_their_place(text: str, message: str) -> None:
    with pytest.raises(UnitError, match=message):
        parse_unit("x.service", PATH, text)


def test_time_spans() -> None:
    assert [parse_duration_s(text) for text in ("5", "500ms", "1min 30s", "infinity")] == [5, 0.5, 90, float("inf")]


def test_variables_are_expanded_as_systemd_does() -> None:
    argv = parse_command("/bin/echo ${A}x $A $MISSING").argv
    assert expand_variables(argv, {"A": "1 2"}) == ["/bin/echo", "1 2x", "1", "2"]


def test_unit_names() -> None:
    assert unit_name("x") == unit_name("x.service") == "x.service"
    with pytest.raises(UnitError, match=r"not \.timer"):
        unit_name("x.timer")
