"""Every ARM body this repository sends: by the templates of infra/, by the reconciler, by remediation.

The reconciler's are its golden files (tests/golden/specs), which another test holds equal to what the specs make;
deletion and power actions have no body. `type@apiVersion` → bodies, with the api-versions of the SDK clients for what
goes through them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from shared.azure.arm import _SHELLS
from shared.azure.resources import ResourceType
from shared.remediation.execute import AGENT_RESTART
from tests.unit.infra.arm_deployment import PAPER, Deployment, Provider, deploy

ROOT: Final = Path(__file__).parents[3]
INFRA: Final = ROOT / "infra"
SPECS: Final = ROOT / "tests" / "golden" / "specs"
# What azure-mgmt-network 33.1, -compute 39.0 and -resource 26.0 send; a test looks at the requests themselves.
_SDK_VERSIONS: Final = {
    "Microsoft.Network": "2026-03-01",
    "Microsoft.Compute": "2026-04-01",
    "Microsoft.Compute/disks": "2026-03-02",
    "Microsoft.Resources": "2025-04-01",
}
EVERYTHING: Final[dict[str, Any]] = {
    "tags": {"costs": "4711"},
    "wrappingKey": "a2V5",
    "wrappingKeyPrevious": "b2xk",
    "bootstrapTokenSha256": "0" * 64,
    "packageUri": "https://example.net/mirrorplane.zip",
    "networking": "private",
    "alwaysReadyHttpInstances": 2,
    "entraClientId": "cccccccc-0000-0000-0000-000000000003",
    "alertWebhooks": "[]",
    "alertEmail": "night@example.net",
    "windows": "preview",
    "windowsArtifacts": json.dumps(
        {name: {"url": f"https://example.net/{name}", "sha256": "5" * 64} for name in ("python", "pip", "winfsp")}
    ),
}
EVENTS: Final = {"functionAppName": "mp-app", "witnessAccountName": "mpwit", "tags": {"costs": "1"}}
PAIR: Final[dict[str, Any]] = {
    "artifactsLocation": "https://example.net/mirrorplane",
    "wheelSha256": "1" * 64,
    "moduleSha256": "2" * 64,
    "sshPublicKey": "ssh-ed25519 AAAA someone@example.net",
}
EVERY_OPTION_OF_A_PAIR: Final[dict[str, Any]] = {
    "tags": {"costs": "4711"},
    "sshPublicKey": "",
    "adminPassword": "a-Long-Password-1",
    "adminAddresses": ["203.0.113.0/24", "198.51.100.7/32"],
    "clientAddresses": ["Internet"],
    "applicationPorts": [8080, 5432],
    "zones": [],
    "image": "ubuntu-24.04",
    "packages": ["postgresql"],
    "storageSku": "Standard_LRS",
}
_TYPE_OF: Final = {kind.value.rsplit("/", 1)[1]: kind.value for kind in ResourceType}


def sdk_version(kind: str) -> str:
    """The api-version with which the SDK's client sends a resource of this type."""
    return _SDK_VERSIONS.get(kind) or _SDK_VERSIONS[kind.partition("/")[0]]


@cache
def template(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((INFRA / name).read_text(encoding="utf-8"))
    return found


def control_plane(**parameters: Any) -> Deployment:
    return deploy(template("azuredeploy.json"), parameters)


def pair(provider: Provider = PAPER, **parameters: Any) -> Deployment:
    return deploy(template("cluster/azuredeploy.json"), {**PAIR, **parameters}, group="pair", provider=provider)


def sent_by_templates() -> Iterator[tuple[str, Any]]:
    signed: list[tuple[str, Any]] = []

    def sas(resource_id: str, version: str, body: Mapping[str, str]) -> dict[str, str]:
        signed.append((f"Microsoft.Storage/storageAccounts/listServiceSas@{version}", dict(body)))
        return PAPER.sas(resource_id, version, body)

    pairs = [pair(replace(PAPER, sas=sas), **options) for options in ({}, EVERY_OPTION_OF_A_PAIR)]
    yield from signed
    for deployment in (control_plane(), control_plane(**EVERYTHING), deploy(template("events.json"), EVENTS), *pairs):
        for resource in deployment.resources:
            yield f"{resource.key}@{resource.api_version}", resource.body


def sent_by_the_reconciler() -> Iterator[tuple[str, Any]]:
    for path in sorted(SPECS.glob("*.json")):
        for name, body in json.loads(path.read_text(encoding="utf-8")).items():
            kind = _TYPE_OF[name.partition("/")[0]]
            yield f"{kind}@{sdk_version(kind)}", body


def sent_by_remediation() -> Iterator[tuple[str, Any]]:
    from azure.mgmt.compute.models import RunCommandInput

    vm = ResourceType.VIRTUAL_MACHINE.value
    for os, lines in AGENT_RESTART.items():
        command = RunCommandInput(command_id=_SHELLS[os], script=list(lines))
        yield f"{vm}/runCommand@{sdk_version(vm)}", command.as_dict()


def sent_to_windows_nodes() -> Iterator[tuple[str, Any]]:
    """With the command that really boots a node; the golden files hold a short one."""
    from shared.provisioning.windows_boot import boot_extension
    from tests.unit.provisioning.test_specs import windows_plan
    from tests.unit.windows.boot_samples import PARAMETERS

    kind = f"{ResourceType.VIRTUAL_MACHINE.value}/extensions"
    yield f"{kind}@{sdk_version(kind)}", boot_extension(windows_plan(), PARAMETERS).wanted


@cache
def all_sent() -> list[tuple[str, Any]]:
    """Not to be changed: made once."""
    return [*sent_by_templates(), *sent_by_the_reconciler(), *sent_by_remediation(), *sent_to_windows_nodes()]
