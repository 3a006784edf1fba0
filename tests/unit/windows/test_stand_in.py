"""What stands in for a Windows VM in the lab: it takes what Windows would take, and changes only what it has to."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from mirror_agent.contract import Application, unfit

from lab.vm import windows
from lab.vm.guest import words
from shared.provisioning.cloudinit import ProxySettings
from shared.provisioning.windows_boot import boot_command, boot_settings, windows_custom_data
from tests.unit.provisioning.test_specs import windows_plan
from tests.unit.windows.boot_samples import PARAMETERS, TOKEN

SCRIPT = windows_custom_data()
COMMAND = boot_command(windows_plan(), PARAMETERS)


def told(settings: dict[str, Any]) -> str:
    """The command with other settings."""
    encoded = base64.b64encode(json.dumps(settings).encode()).decode()
    return f"{COMMAND[: COMMAND.index('-Settings')]}-Settings '{encoded}'\""


def test_the_command_of_the_control_plane_is_read_as_its_script_reads_it() -> None:
    settings = windows.settings_of(COMMAND, SCRIPT)
    assert settings == boot_settings(windows_plan(), PARAMETERS)
    behind = replace(PARAMETERS, proxy=ProxySettings("http://proxy.example.invalid:3128", ()))
    assert "noProxy" in windows.settings_of(boot_command(windows_plan(), behind), SCRIPT)
    assert [entry["sha256"][0] for entry in windows.downloads(settings)] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("command", "script", "words"),
    [
        (COMMAND.replace("Bypass", "RemoteSigned"), SCRIPT, "does not run the custom data"),
        (COMMAND + " & echo", SCRIPT, "does not run the custom data"),
        ("x" * 8192, SCRIPT, "cmd.exe takes 8191"),
        (told({"node": "a"}), SCRIPT, "not those the script asks for"),
        (told({**boot_settings(windows_plan(), PARAMETERS), "extra": 1}), SCRIPT, "not those the script asks for"),
        (COMMAND, "#cloud-config\n", "not the bootstrap script"),
        (COMMAND.replace("-Settings '", "-Settings 'e"), SCRIPT, "no JSON in base64"),
    ],
)
def test_what_windows_could_not_run_is_refused(command: str, script: str, words: str) -> None:
    with pytest.raises(windows.NotWindowsEnough, match=words):
        windows.settings_of(command, script)


def test_the_stand_in_enrols_with_the_same_token_through_the_translator() -> None:
    plan = windows.stand_in(boot_settings(windows_plan(), PARAMETERS), "some-id")
    files = {entry.path: base64.b64decode(entry.content_b64).decode() for entry in plan.write_files}
    bootstrap = json.loads(files["/var/lib/mirrorplane/bootstrap.json"])
    assert bootstrap["enrolmentToken"] == TOKEN
    assert bootstrap["wheelSha256"] == PARAMETERS.wheel_sha256
    assert bootstrap["controlPlaneUrl"].startswith("https://127.0.0.1:")
    assert json.loads(files[windows.TRANSLATOR_SETTINGS])["controlPlaneUrl"] == PARAMETERS.control_plane_url
    lines = plan.runcmd.splitlines()
    assert lines[:2] == ["#!/bin/sh", f"systemctl enable --now {windows.TRANSLATOR_UNIT}"]
    assert [entry.mount_point for entry in plan.mounts] == [words.DRIVES["M"]]


APPLICATION = Application.model_validate_json(
    json.dumps(
        {
            "name": "ledger",
            "startPrim": "@echo off\r\nstart M:\\ledger\\run.exe\r\n",
            "replicatedPaths": [{"path": "M:\\ledger", "mode": "ordered"}],
            "environment": {"EDITION": "standard"},
            "checkers": [
                {"name": "there", "kind": "custom", "command": "if not exist M:\\ledger\\x exit 1"},
                {"name": "room", "kind": "disk", "path": "m:\\"},
                {"name": "spooler", "kind": "process", "unit": "Print Spooler"},
            ],
        }
    )
)


def test_an_application_of_windows_becomes_one_of_linux_and_its_scripts_stay_as_they_are() -> None:
    assert unfit("windows", APPLICATION) == []
    sent = APPLICATION.model_dump(mode="json", by_alias=True)
    answer = {"configuration": {"version": 7, "application": sent}, "commands": [{"id": "x"}]}
    found = words.translated(answer)
    assert found["commands"] == answer["commands"]
    assert found["configuration"]["version"] == 7
    linux = Application.model_validate_json(json.dumps(found["configuration"]["application"]))
    assert unfit("linux", linux) == []
    assert [entry.path for entry in linux.replicated_paths] == ["/data/ledger"]
    assert linux.environment == APPLICATION.environment
    script = base64.b64decode(linux.start_prim.split()[-1]).decode()
    assert script == APPLICATION.start_prim
    assert [checker.path for checker in linux.checkers] == [None, "/data/", None]


def test_answers_without_a_configuration_go_through_untouched() -> None:
    answers: list[dict[str, Any]] = [{"error": {"code": "x"}}, {"configuration": None, "commands": []}, {}]
    for answer in answers:
        assert words.translated(answer) == answer


@pytest.mark.parametrize(
    ("path", "linux"),
    [("M:\\a\\b", "/data/a/b"), ("m:\\a", "/data/a"), ("E:\\x", "/drives/e/x"), ("/already", "/already")],
)
def test_directories(path: str, linux: str) -> None:
    assert words.linux_path(path) == linux


def test_of_powershell_one_line_is_known() -> None:
    from shared.remediation.execute import AGENT_RESTART

    assert windows.shell_of("\n".join(AGENT_RESTART["windows"])) == "systemctl restart mirrorplane-agent.service\n"
    with pytest.raises(windows.NotWindowsEnough, match="no PowerShell"):
        windows.shell_of("Get-Process")
