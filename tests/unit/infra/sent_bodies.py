"""Every ARM body this repository sends: by the templates of infra/, by the reconciler, by remediation.

The reconciler's are its golden files (tests/golden/specs), which another test holds equal to what the specs make;
deletion and power actions have no body. `type@apiVersion` → bodies, with the api-versions of the SDK clients for what
goes through them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from shared.azure.resources import ResourceType
from tests.unit.infra.arm_deployment import Deployment, deploy

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
}
EVENTS: Final = {"functionAppName": "mp-app", "witnessAccountName": "mpwit", "tags": {"costs": "1"}}
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


def sent_by_templates() -> Iterator[tuple[str, Any]]:
    for deployment in (control_plane(), control_plane(**EVERYTHING), deploy(template("events.json"), EVENTS)):
        for resource in deployment.resources:
            yield f"{resource.key}@{resource.api_version}", resource.body


def sent_by_the_reconciler() -> Iterator[tuple[str, Any]]:
    for path in sorted(SPECS.glob("*.json")):
        for name, body in json.loads(path.read_text(encoding="utf-8")).items():
            kind = _TYPE_OF[name.partition("/")[0]]
            yield f"{kind}@{sdk_version(kind)}", body


def sent_by_remediation() -> Iterator[tuple[str, Any]]:
    from azure.mgmt.compute.models import RunCommandInput

    command = RunCommandInput(command_id="RunShellScript", script=["systemctl restart mirrorplane-agent.service"])
    vm = ResourceType.VIRTUAL_MACHINE.value
    yield f"{vm}/runCommand@{sdk_version(vm)}", command.as_dict()


@cache
def all_sent() -> list[tuple[str, Any]]:
    """Not to be changed: made once."""
    return [*sent_by_templates(), *sent_by_the_reconciler(), *sent_by_remediation()]
