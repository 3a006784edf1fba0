"""The boot document of a node: what cloud-init does on the very first boot of a VM.

The document (a `#cloud-config` in JSON, which is YAML too) carries only what is needed to fetch and enrol the agent.
The application, its files and all other configuration come with the enrolment, so they may be large and may change.
Guarantee: `render` refuses a document that Azure would refuse (custom data is limited to 64 KiB in base64); the
enrolment token appears in one file of mode 0600 and nowhere else.

The data disk gets a partition and a file system only if it has none (`overwrite: false`, partition `auto` with a
label): a replaced VM is a new instance for cloud-init, and its disk is full of data. Not `partition: none`: that
formats unconditionally (cc_disk_setup.mkfs adds -F on a whole disk).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirror_agent.contract import NodeName

MAX_CUSTOM_DATA_BASE64_BYTES: Final = 65_535
DATA_DEVICE: Final = "/dev/disk/azure/scsi1/lun0"
DATA_MOUNT: Final = "/data"
DATA_LABEL: Final = "mirrorplane"
STATE_DIRECTORY: Final = "/var/lib/mirrorplane"
AGENT_UNIT: Final = "mirrorplane-agent.service"

TEMPLATES: Final = Path(__file__).resolve().parents[2] / "infra" / "vm" / "linux"


class BootDocumentTooLarge(ValueError):
    """Azure would refuse the VM."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """`direct`: hosts and addresses that are not asked for through the proxy."""

    url: str
    direct: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The variables every program of the node's first boot and of the agent obeys; both spellings are in use."""
        settings = {"http_proxy": self.url, "https_proxy": self.url, "no_proxy": ",".join(self.direct)}
        return {**settings, **{name.upper(): value for name, value in settings.items()}}


@dataclass(frozen=True, slots=True)
class BootParameters:
    """What differs from node to node. `wheel_name` is the file name pip wants to see."""

    cluster: str
    cluster_id: str
    node: NodeName
    control_plane_url: str
    enrolment_token: str = field(repr=False)
    wheel_name: str
    wheel_sha256: str
    packages: tuple[str, ...]
    proxy: ProxySettings | None = None


def render(parameters: BootParameters) -> str:
    """The document. Raises BootDocumentTooLarge, OSError if a template is missing from the deployment."""
    document = "#cloud-config\n" + json.dumps(cloud_config(parameters), indent=1, ensure_ascii=False) + "\n"
    size_bytes = len(base64.b64encode(document.encode()))
    if size_bytes > MAX_CUSTOM_DATA_BASE64_BYTES:
        raise BootDocumentTooLarge(
            f"the boot document of node {parameters.node!r} has {size_bytes} bytes in base64; Azure allows "
            f"{MAX_CUSTOM_DATA_BASE64_BYTES}. Put large content into application.files instead of packages"
        )
    return document


def cloud_config(parameters: BootParameters) -> dict[str, Any]:
    document = _document(parameters)
    if parameters.proxy is not None:
        _through_proxy(document, parameters.proxy)
    return document


def _through_proxy(document: dict[str, Any], proxy: ProxySettings) -> None:
    """Packages, bootstrap and agent behind the proxy; the drop-in counts when the service runs the bootstrap."""
    variables = proxy.environment.items()
    drop_in = "[Service]\n" + "".join(f'Environment="{name}={value.replace("%", "%%")}"\n' for name, value in variables)
    document["write_files"].append(_file(f"/etc/systemd/system/{AGENT_UNIT}.d/proxy.conf", drop_in, "0644"))
    document["apt"] = {"http_proxy": proxy.url, "https_proxy": proxy.url}
    document["runcmd"] = [
        ["env", *(f"{name}={value}" for name, value in variables), *command]
        if f"{STATE_DIRECTORY}/bootstrap.py" in command
        else command
        for command in document["runcmd"]
    ]


def _document(parameters: BootParameters) -> dict[str, Any]:
    return {
        "write_files": [
            _file(f"{STATE_DIRECTORY}/bootstrap.json", json.dumps(_bootstrap(parameters), indent=1) + "\n", "0600"),
            _file(f"{STATE_DIRECTORY}/bootstrap.py", _template("bootstrap.py"), "0700"),
            _file(f"/etc/systemd/system/{AGENT_UNIT}", _template(AGENT_UNIT), "0644"),
            _file("/etc/logrotate.d/mirrorplane", _template("mirrorplane.logrotate"), "0644"),
        ],
        "packages": list(dict.fromkeys(parameters.packages)),
        "disk_setup": {DATA_DEVICE: {"table_type": "gpt", "layout": True, "overwrite": False}},
        "fs_setup": [
            {
                "label": DATA_LABEL,
                "filesystem": "ext4",
                "device": DATA_DEVICE,
                "partition": "auto",
                "overwrite": False,
            }
        ],
        # nofail: a node without its data disk must boot, so that it can be looked at; the service demands the mount.
        "mounts": [[f"{DATA_DEVICE}-part1", DATA_MOUNT, "ext4", "defaults,noatime,nofail", "0", "2"]],
        "runcmd": [
            # Enabled first: a reset in the middle of the bootstrap is resumed by the service, as runcmd runs once only.
            ["systemctl", "enable", AGENT_UNIT],
            ["/usr/bin/python3", f"{STATE_DIRECTORY}/bootstrap.py"],
            ["systemctl", "enable", "--now", AGENT_UNIT],
        ],
    }


def _bootstrap(parameters: BootParameters) -> dict[str, str]:
    return {
        "controlPlaneUrl": parameters.control_plane_url,
        "enrolmentToken": parameters.enrolment_token,
        "wheelName": parameters.wheel_name,
        "wheelSha256": parameters.wheel_sha256,
        "cluster": parameters.cluster,
        "clusterId": parameters.cluster_id,
        "node": parameters.node,
    }


def _file(path: str, content: str, permissions: str) -> dict[str, str]:
    return {"path": path, "owner": "root:root", "permissions": permissions, "content": content}


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
