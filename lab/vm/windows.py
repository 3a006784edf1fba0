"""What the lab does with a VM that is to be Windows: a Linux VM stands in for it, and says so.

Read as Windows would: the command of the extension has to be the very one that runs the custom data as a script; the
script's own list of settings is compared with what it is told; every artefact the settings name is fetched inside the
VM and has to have its SHA-256. Then, in place of PowerShell's work, the Linux boot document for the same settings is
carried out: the same agent enrols with the same token at the same control plane.
A translator (`lab.vm.guest.words`) stands between the agent and the control plane, because the configuration names
drives and scripts of Windows: drive M: is the data disk, and scripts are run by the cmd.exe of Wine.
Not shown by this: PowerShell, services, the firewall, WinFsp, NTFS; see docs/windows.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
from dataclasses import replace
from typing import Any, Final, get_args

from mirror_agent.contract import NodeName

from lab.vm.cloudinit import FileEntry, Plan, parse
from shared.provisioning.cloudinit import BootParameters, render

TRANSLATOR_PORT: Final = 8453
TRANSLATOR_UNIT: Final = "lab-windows-words.service"
TRANSLATOR_SETTINGS: Final = "/etc/lab-windows-words.json"
BANNER: Final = "This VM stands in for {image}: it is Linux, and its agent is the Linux one (docs/windows.md)."
WINE: Final = ("wine", "wineboot", "wineserver")
# The command line as Windows would take it apart: one pair of double quotes, the settings between single ones.
_COMMAND: Final = re.compile(
    r"powershell\.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command \"& \(\[ScriptBlock\]::Create\("
    r"\(Get-Content -Raw -Encoding UTF8 -LiteralPath \(Join-Path \$env:SystemDrive 'AzureData\\CustomData\.bin'\)\)\)\)"
    r" -Settings '(?P<settings>[A-Za-z0-9+/=]+)'\""
)
_MAX_COMMAND_CHARS: Final = 8191
_NEEDED: Final = re.compile(r"^\$Needed = @\((?P<names>[^)]*)\)", re.MULTILINE)
_OPTIONAL: Final = re.compile(r"PSObject\.Properties\['(?P<name>\w+)'\]")
_RESTART_AGENT: Final = re.compile(r"Restart-Service -Name mirrorplane-agent -Force\s*")


class NotWindowsEnough(ValueError):
    """The extension or script cannot be what Windows would run, or the lab cannot stand for it; says why."""


def missing_programs() -> tuple[str, ...]:
    return tuple(name for name in WINE if shutil.which(name) is None)


def settings_of(command: str, script: str) -> dict[str, Any]:
    """What the script is told, checked against what it asks for. Raises NotWindowsEnough."""
    if len(command) > _MAX_COMMAND_CHARS:
        raise NotWindowsEnough(f"the command has {len(command)} characters; cmd.exe takes {_MAX_COMMAND_CHARS}")
    found = _COMMAND.fullmatch(command)
    if found is None:
        raise NotWindowsEnough("the command does not run the custom data with -Settings; the lab has no PowerShell")
    try:
        settings = json.loads(base64.b64decode(found["settings"], validate=True))
    except (binascii.Error, ValueError) as error:
        raise NotWindowsEnough(f"-Settings is no JSON in base64: {error}") from None
    needed = _NEEDED.search(script)
    if needed is None:
        raise NotWindowsEnough("the custom data is not the bootstrap script: it has no list $Needed")
    wanted = set(re.findall(r"'(\w+)'", needed["names"]))
    known = wanted | {match["name"] for match in _OPTIONAL.finditer(script)}
    if not isinstance(settings, dict) or not wanted <= set(settings) <= known:
        raise NotWindowsEnough(f"the settings {sorted(settings)} are not those the script asks for, {sorted(wanted)}")
    return settings


def downloads(settings: dict[str, Any]) -> list[dict[str, str]]:
    """What the script fetches besides the wheel, which the Linux bootstrap fetches in its place."""
    return [
        {"url": str(settings[f"{name}Url"]), "sha256": str(settings[f"{name}Sha256"])}
        for name in ("python", "pip", "winfsp")
    ]


def stand_in(settings: dict[str, Any], cluster_id: str) -> Plan:
    """The Linux boot document for the same settings, with the translator before it."""
    nodes: dict[str, NodeName] = {name: name for name in get_args(NodeName)}
    document = render(
        BootParameters(
            cluster=str(settings["cluster"]),
            cluster_id=cluster_id,
            node=nodes[str(settings["node"])],
            control_plane_url=f"https://127.0.0.1:{TRANSLATOR_PORT}",
            enrolment_token=str(settings["enrolmentToken"]),
            wheel_name=str(settings["wheelName"]),
            wheel_sha256=str(settings["wheelSha256"]),
            packages=(),
        )
    )
    plan = parse(document.encode())
    words = {"controlPlaneUrl": settings["controlPlaneUrl"], "port": TRANSLATOR_PORT}
    unit = (
        "[Unit]\nDescription=Words of Windows for the Linux agent (lab)\n\n[Service]\n"
        "ExecStart=/usr/bin/python3 -I /usr/lib/lab-guest words\nRestart=always\nRestartSec=1\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    files = (_file(TRANSLATOR_SETTINGS, json.dumps(words)), _file(f"/etc/systemd/system/{TRANSLATOR_UNIT}", unit))
    first, _, rest = plan.runcmd.partition("\n")
    return replace(
        plan,
        write_files=(*files, *plan.write_files),
        runcmd=f"{first}\nsystemctl enable --now {TRANSLATOR_UNIT}\n{rest}",
    )


def shell_of(script: str) -> str:
    """The same in the stand-in's shell, for the closed list the lab knows. Raises NotWindowsEnough."""
    if _RESTART_AGENT.fullmatch(script):
        return "systemctl restart mirrorplane-agent.service\n"
    raise NotWindowsEnough("the lab has no PowerShell; it knows the restart of the agent's service only")


def _file(path: str, content: str) -> FileEntry:
    return FileEntry(
        path=path,
        content_b64=base64.b64encode(content.encode()).decode(),
        permissions="0644",
        owner="root:root",
        append=False,
        defer=False,
    )
