"""The role of the control plane grants exactly the operations its code asks of Azure: none missing, none spare."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from shared.azure.arm import AzureArm, AzureMachines
from shared.azure.observe import _LOG as BALANCER_LOG
from shared.azure.observe import AzurePlatform, MonitorEndpoints
from shared.azure.ports import PowerAction
from shared.azure.resources import ResourceRef, ResourceType
from shared.provisioning.specs.cluster import DELETED_WITH_PARENT
from tests.control_plane_samples import record
from tests.unit.infra.recording import SUBSCRIPTION, RecordedSession, Request, action_of
from tests.unit.infra.sent_bodies import INFRA, ROOT, control_plane, sdk_version, sent_by_the_reconciler

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
GROUP: Final = "mirrorplane-pay"
# What an operation's URL looks like: Azure-AsyncOperation and Location headers, and the deletion of a group.
OPERATIONS: Final = (
    "providers/Microsoft.Network/locations/westeurope/operations/1",
    "providers/Microsoft.Network/locations/westeurope/operationResults/1",
    "providers/Microsoft.Compute/locations/westeurope/operations/1",
    "operationresults/1",
)
# Putting a resource that refers to another one needs a right on that one ("linked access check"), by its type. Most are
# called join; where there is no such action, Azure asks for another. Sources: the resource provider operations of
# learn.microsoft.com, and the words of Azure's own LinkedAuthorizationFailed.
LINKED: Final = {
    "virtualnetworks/subnets": {"Microsoft.Network/virtualNetworks/subnets/join/action"},
    "networksecuritygroups": {"Microsoft.Network/networkSecurityGroups/join/action"},
    "natgateways": {"Microsoft.Network/natGateways/join/action"},
    "publicipaddresses": {"Microsoft.Network/publicIPAddresses/join/action"},
    "loadbalancers/backendaddresspools": {"Microsoft.Network/loadBalancers/backendAddressPools/join/action"},
    "networkinterfaces": {"Microsoft.Network/networkInterfaces/join/action"},
    "disks": {"Microsoft.Compute/disks/write"},
    "availabilitysets": {"Microsoft.Compute/availabilitySets/write"},
    "proximityplacementgroups": {"Microsoft.Compute/proximityPlacementGroups/write"},
    # A cluster may also name the definition alone: then the newest version is taken.
    "galleries/images/versions": {
        "Microsoft.Compute/galleries/images/read",
        "Microsoft.Compute/galleries/images/versions/read",
    },
}
# Data planes that are asked through clients of their own: what their documentation demands.
DATA_PLANES: Final = {
    "MetricsClient.query_resources": "Microsoft.Insights/metrics/read",
    # Per table the action is …/logs/<table>/read; that of the balancer's table is in no published list.
    "LogsQueryClient.query_resource": "Microsoft.Insights/logs/*/read",
}


async def all_calls() -> list[Request]:
    """Every method of the production code that talks to ARM, for every type it may be called with."""
    session = RecordedSession()
    try:
        arm, machines = AzureArm(session), AzureMachines(session)
        for kind in ResourceType:
            name = "/".join(["pay-x", "bootstrap"][: kind.value.count("/")])
            ref = ResourceRef(kind, GROUP, GROUP if kind is ResourceType.GROUP else name)
            await arm.get(ref)
            await arm.put(ref, {"location": "westeurope"}, "etag")
            if kind not in DELETED_WITH_PARENT:
                await arm.delete(ref)
        await arm.list_group(GROUP)
        for path in OPERATIONS:
            await arm.operation(f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/{path}?api-version=1")
        vm = ResourceRef(ResourceType.VIRTUAL_MACHINE, GROUP, "pay-a")
        for action in PowerAction:
            await machines.power(vm, action)
        await machines.run_command(vm, ("true",))
        await machines.run_command(vm, ("exit 0",), "windows")
        await AzurePlatform(session, machines, MonitorEndpoints()).look(record("pay"), NOW)
        return session.seen
    finally:
        session.close()


def linked(body: Any) -> Iterator[str]:
    """Ids a body refers to, but for its own children."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name == "id" and isinstance(value, str):
                yield value
            else:
                yield from linked(value)
    elif isinstance(body, list):
        for entry in body:
            yield from linked(entry)


def kind_of_id(resource_id: str) -> str:
    namespace_and_rest = resource_id.rsplit("/providers/", 1)[1].split("/")[1:]
    return "/".join(namespace_and_rest[0::2]).lower()


def linked_actions() -> set[str]:
    found: set[str] = set()
    for key, body in sent_by_the_reconciler():
        own = key.partition("@")[0].split("/")[1].lower()
        for resource_id in linked(body):
            kind = kind_of_id(resource_id)
            if own == "loadbalancers" and kind.startswith("loadbalancers/"):
                continue  # rules of a balancer name its own frontends, pools and probes
            found |= LINKED[kind]
    return found


def granted() -> set[str]:
    role = control_plane().only("Microsoft.Authorization/roleDefinitions").body["properties"]
    (permission,) = role["permissions"]
    assert permission["notActions"] == []
    actions = permission["actions"]
    assert len(actions) == len(set(actions))
    return set(actions)


def test_no_call_is_left_out_of_all_calls() -> None:
    """A new method, or a new module that asks Azure, has to be added to `all_calls`."""
    public = {kind: {name for name in vars(kind) if not name.startswith("_")} for kind in (AzureArm, AzureMachines)}
    assert public[AzureArm] == {"get", "put", "delete", "list_group", "operation"}
    assert public[AzureMachines] == {"instance_view", "power", "run_command"}
    asks = re.compile(
        r"session\.(network|compute|resource|credential)\b|ManagementClient\(|MetricsClient\(|LogsQueryClient\("
    )
    files = [path for path in (ROOT / "shared").rglob("*.py") if asks.search(path.read_text(encoding="utf-8"))]
    assert {path.name for path in files} == {"arm.py", "observe.py", "session.py"}


async def test_what_is_granted_is_what_the_code_uses() -> None:
    calls = await all_calls()
    used = {action_of(call) for call in calls} | linked_actions() | set(DATA_PLANES.values())
    lower = {action.lower() for action in granted()}
    assert {action for action in used if action.lower() not in lower} == set(), "used, not granted"
    assert lower - {action.lower() for action in used} == set(), "granted, not used"


async def test_the_requests_carry_the_versions_whose_facts_are_kept() -> None:
    written = {
        action_of(call).removesuffix("/write"): call.api_version for call in await all_calls() if call.method == "PUT"
    }
    kinds = [kind.value for kind in ResourceType if kind is not ResourceType.GROUP]
    assert {kind: written[kind] for kind in kinds} == {kind: sdk_version(kind) for kind in kinds}
    assert written["Microsoft.Resources/subscriptions/resourcegroups"] == sdk_version(ResourceType.GROUP.value)


async def test_only_writing_a_resource_and_running_a_command_have_a_body() -> None:
    """Those are held against the specifications (test_arm_bodies); reading, deleting and switching send none."""
    others = [call for call in await all_calls() if call.method != "PUT" and not call.path.endswith("/runCommand")]
    assert [f"{call.method} {call.path}" for call in others if call.body] == []


def test_the_assignment_is_of_this_role_to_the_identity_at_the_subscription() -> None:
    deployment = control_plane()
    role = deployment.only("Microsoft.Authorization/roleDefinitions")
    (assigned,) = [
        found
        for found in deployment.of_type("Microsoft.Authorization/roleAssignments")
        if str(found.body["properties"]["roleDefinitionId"]).endswith(role.name)
    ]
    assert assigned.scope is None
    assert assigned.body["properties"]["principalId"] == deployment.outputs["principalId"]


def test_no_action_is_a_wildcard_but_where_azure_has_no_other() -> None:
    assert [action for action in granted() if "*" in action] == ["Microsoft.Insights/logs/*/read"]
    assert BALANCER_LOG.startswith("ALBHealthEvent "), "another table: look up whether it has an action of its own"


def test_every_action_has_its_reason() -> None:
    source = (INFRA / "modules" / "cluster-role.bicep").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if re.match(r"\s+'Microsoft\.", line) and "/" in line]
    assert len(lines) == len(granted())
    assert [line.strip() for line in lines if not re.search(r"// \S.{8,}", line)] == []
