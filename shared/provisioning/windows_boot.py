"""How a Windows node is brought up: its custom data, and the Custom Script extension that runs it.

The script (infra/vm/windows/bootstrap.ps1) is the VM's custom data, left by Windows in `AzureData\\CustomData.bin`;
it holds no secret. What differs from node to node, the enrolment token among it, goes into the extension's protected
settings, which Azure encrypts for the VM and never shows again; nothing of it is in the public settings.
Guarantee: everything the node downloads is named with its SHA-256 (`Artifact` refuses anything else), because Windows
images bring neither Python nor WinFsp; `boot_extension` refuses a command longer than Windows takes.
Limits: the command line, and with it the token, can be seen by the VM's administrators while it runs; the token enrols
once. No one knows the administrator's password (`one_time_password`): Azure can set another one (docs/windows.md).
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirror_agent.contract import WINDOWS_DATA_DRIVE, NodeName

from shared.provisioning.cloudinit import MAX_CUSTOM_DATA_BASE64_BYTES, BootDocumentTooLarge, ProxySettings
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.extension import extension
from shared.provisioning.specs.spec import Spec
from shared.provisioning.specs.virtual_machine import DATA_DISK_LUN
from shared.provisioning.windows_artifacts import WindowsArtifacts

SCRIPT: Final = Path(__file__).resolve().parents[2] / "infra" / "vm" / "windows" / "bootstrap.ps1"
# The extension hands its command to cmd.exe.
MAX_COMMAND_CHARS: Final = 8191
# Azure wants three of four kinds and 12 to 123 characters; these are all of a kind that no shell takes for its own.
_PASSWORD_KINDS: Final = ("ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz", "23456789", "-_.:+=")
_PASSWORD_CHARS: Final = 32


@dataclass(frozen=True, slots=True)
class WindowsBootParameters:
    node: NodeName
    control_plane_url: str
    enrolment_token: str = field(repr=False)
    wheel_name: str
    wheel_sha256: str
    artifacts: WindowsArtifacts
    proxy: ProxySettings | None = None


def windows_custom_data() -> str:
    """The script. Raises BootDocumentTooLarge, OSError if it is missing from the deployment."""
    script = SCRIPT.read_text(encoding="utf-8")
    size_bytes = len(base64.b64encode(script.encode()))
    if size_bytes > MAX_CUSTOM_DATA_BASE64_BYTES:
        raise BootDocumentTooLarge(
            f"{SCRIPT.name} has {size_bytes} bytes in base64; Azure allows {MAX_CUSTOM_DATA_BASE64_BYTES}"
        )
    return script


def boot_settings(plan: ClusterPlan, parameters: WindowsBootParameters) -> dict[str, Any]:
    """What the script is told; its own list of names is compared with this one by a test."""
    artifacts = parameters.artifacts
    settings: dict[str, Any] = {
        "cluster": plan.cluster,
        "node": parameters.node,
        "controlPlaneUrl": parameters.control_plane_url,
        "enrolmentToken": parameters.enrolment_token,
        "wheelName": parameters.wheel_name,
        "wheelSha256": parameters.wheel_sha256,
        "pythonUrl": artifacts.python.url,
        "pythonSha256": artifacts.python.sha256,
        "pipUrl": artifacts.pip.url,
        "pipSha256": artifacts.pip.sha256,
        "winfspUrl": artifacts.winfsp.url,
        "winfspSha256": artifacts.winfsp.sha256,
        "dataDiskLun": DATA_DISK_LUN,
        "dataDriveLetter": WINDOWS_DATA_DRIVE,
        "subnet": plan.subnet,
        "adminAddresses": list(plan.admin_addresses),
        "servicePorts": [f"{rule.protocol}/{rule.backend_port}" for rule in plan.rules],
    }
    if parameters.proxy is not None:
        settings["proxyUrl"] = parameters.proxy.url
        settings["noProxy"] = list(parameters.proxy.direct)
    return settings


def boot_command(plan: ClusterPlan, parameters: WindowsBootParameters) -> str:
    """Runs the custom data as a script. Raises BootDocumentTooLarge.

    Not copied to a file first: there is none that nobody else could have put there before.
    """
    settings = json.dumps(boot_settings(plan, parameters), separators=(",", ":"))
    encoded = base64.b64encode(settings.encode()).decode()
    script = "(Get-Content -Raw -Encoding UTF8 -LiteralPath (Join-Path $env:SystemDrive 'AzureData\\CustomData.bin'))"
    command = (
        "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command "
        f"\"& ([ScriptBlock]::Create({script})) -Settings '{encoded}'\""
    )
    if len(command) > MAX_COMMAND_CHARS:
        raise BootDocumentTooLarge(
            f"the boot command of node {parameters.node!r} has {len(command)} characters; Windows takes "
            f"{MAX_COMMAND_CHARS}. Name fewer addresses of administrators"
        )
    return command


def boot_extension(plan: ClusterPlan, parameters: WindowsBootParameters) -> Spec:
    """`virtualMachines/extensions/bootstrap` of the node, ready to be made. Raises BootDocumentTooLarge."""
    return extension(plan, parameters.node, boot_command(plan, parameters))


def one_time_password() -> str:
    """For `osProfile.adminPassword` of the one PUT that makes a VM; nobody keeps it."""
    everything = "".join(_PASSWORD_KINDS)
    characters = [secrets.choice(kind) for kind in _PASSWORD_KINDS]
    characters += [secrets.choice(everything) for _ in range(_PASSWORD_CHARS - len(characters))]
    secrets.SystemRandom().shuffle(characters)
    return "".join(characters)
