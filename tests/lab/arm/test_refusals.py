"""What ARM refuses: bad bodies, stale ETags, resources in use, missing references, wrong tokens."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ServiceRequestError

from lab.arm.service import MAX_BODY_BYTES
from tests.lab.arm import bodies
from tests.lab.arm.bodies import GROUP, LOCATION, SUBSCRIPTION, network_id
from tests.lab.arm.conftest import Lab
from tests.lab.arm.test_resources import build_cluster, put, vm_body


async def refused(call: Awaitable[Any]) -> tuple[int, str, str]:
    """(status, code, code of the first detail) of a request that must fail."""
    with pytest.raises(HttpResponseError) as caught:
        await call
    error: Any = caught.value.error
    details = getattr(error, "details", None) or []
    return caught.value.status_code or 0, error.code if error else "", details[0].code if details else ""


async def raw(lab: Lab, method: str, path: str, *, body: Any = None, token: str | None = "good", **query: str) -> Any:
    headers = {}
    if token is not None:
        good = lab.issuer.issue("https://management.azure.com", "test").text
        headers["Authorization"] = f"Bearer {good if token == 'good' else token}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    async with aiohttp.ClientSession() as session:
        async with session.request(
            method, lab.url + path, params=query, data=data, headers=headers, ssl=False
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text)["error"]["code"] if text else "", answer.headers


GROUP_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"


async def test_an_unknown_property_is_refused_at_any_depth(lab: Lab) -> None:
    await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())
    balancers = lab.network.load_balancers

    top = bodies.load_balancer() | {"skew": {}}
    assert await refused(put(balancers, "demo-lb", top)) == (400, "InvalidRequestContent", "")
    deep = bodies.load_balancer()
    deep["properties"]["probes"][0]["properties"]["probeTreshold"] = 1
    assert await refused(put(balancers, "demo-lb", deep)) == (400, "InvalidRequestFormat", "InvalidJson")
    machine = bodies.vm("n")
    machine["properties"]["osProfile"]["costumData"] = ""
    assert (await refused(put(lab.compute.virtual_machines, "v", machine)))[:2] == (400, "BadRequest")
    assert next(iter(lab.service.state.resources.values())).rid.name == "demo-vip"
    assert len(lab.service.state.resources) == 1


async def test_wrong_types_and_enumerations_are_refused(lab: Lab) -> None:
    wrong = bodies.nsg()
    wrong["properties"]["securityRules"][0]["properties"]["access"] = "Permit"
    assert await refused(put(lab.network.network_security_groups, "g", wrong)) == (
        400,
        "InvalidRequestFormat",
        "InvalidJson",
    )
    wrong = bodies.nsg()
    wrong["properties"]["securityRules"][0]["properties"]["priority"] = "100"
    assert (await refused(put(lab.network.network_security_groups, "g", wrong)))[0] == 400


async def test_what_the_lab_cannot_make_real_is_refused_and_not_ignored(lab: Lab) -> None:
    body = bodies.vnet(delegations=[{"name": "d", "properties": {"serviceName": "Microsoft.Web/serverFarms"}}])
    assert (await refused(put(lab.network.virtual_networks, "v", body)))[:2] == (400, "NotModelledByTheLab")


Change = Callable[[Any], None]


def _set(path: str, value: Any) -> Change:
    def change(body: Any) -> None:
        *parents, last = path.split("/")
        for name in parents:
            body = body[int(name)] if name.isdecimal() else body[name]
        body[int(last) if last.isdecimal() else last] = value

    return change


SUBNET = "properties/subnets/0/properties"
RULE = "properties/securityRules/0/properties"
PROBE = "properties/probes/0/properties"
CONFIG = "properties/ipConfigurations/0/properties"


@pytest.mark.parametrize(
    ("operations", "body", "change", "code"),
    [
        ("virtual_networks", bodies.vnet(), _set(f"{SUBNET}/addressPrefix", "192.168.0.0/24"), "NetcfgInvalidSubnet"),
        ("virtual_networks", bodies.vnet(), _set(f"{SUBNET}/addressPrefix", "nonsense"), "InvalidAddressPrefixFormat"),
        (
            "virtual_networks",
            bodies.vnet(),
            _set("properties/subnets", [{"name": n, "properties": {"addressPrefix": "10.0.0.0/24"}} for n in "ab"]),
            "NetcfgSubnetRangesOverlap",
        ),
        ("network_security_groups", bodies.nsg(), _set(f"{RULE}/priority", 99), "SecurityRuleInvalidPriority"),
        (
            "network_security_groups",
            bodies.nsg(),
            _set(f"{RULE}/destinationPortRanges", ["0-70000"]),
            "SecurityRuleInvalidPortRange",
        ),
        (
            "network_security_groups",
            bodies.nsg(),
            _set(f"{RULE}/sourceAddressPrefix", "Mars"),
            "SecurityRuleInvalidAddressPrefix",
        ),
        ("load_balancers", bodies.load_balancer(), _set(f"{PROBE}/intervalInSeconds", 4), "InvalidRequestFormat"),
        ("load_balancers", bodies.load_balancer(), _set(f"{PROBE}/protocol", "Tcp"), "InvalidRequestFormat"),
        ("load_balancers", bodies.load_balancer(), _set("properties/probes", []), "InvalidResourceReference"),
        ("load_balancers", bodies.load_balancer("other"), _set("tags", {}), "InvalidResourceReference"),
        ("network_interfaces", bodies.nic("10.0.1.4"), _set("tags", {}), "PrivateIPAddressNotInSubnet"),
        ("network_interfaces", bodies.nic("10.0.0.3"), _set("tags", {}), "PrivateIPAddressInReservedRange"),
        ("network_interfaces", bodies.nic("10.0.0.200"), _set("tags", {}), "PrivateIPAddressIsAllocated"),
        (
            "network_interfaces",
            bodies.nic(),
            _set(f"{CONFIG}/subnet/id", bodies.SUBNET_ID + "x"),
            "InvalidResourceReference",
        ),
        ("network_interfaces", bodies.nic(), _set(f"{CONFIG}/subnet/id", "subnet"), "LinkedInvalidPropertyId"),
        ("network_interfaces", bodies.nic(pool=True), _set("tags", {}), "InvalidResourceReference"),
        ("network_interfaces", bodies.nic(group=True), _set("tags", {}), "InvalidResourceReference"),
        ("network_interfaces", bodies.nic(), _set("location", "northeurope"), "InvalidResourceReference"),
    ],
)
async def test_network_rules(lab: Lab, operations: str, body: Any, change: Change, code: str) -> None:
    await put(lab.network.public_ip_addresses, "demo-vip", bodies.public_ip())
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    await put(lab.network.network_interfaces, "other", bodies.nic("10.0.0.200"))
    body = copy.deepcopy(body)
    change(body)
    name = "demo-lb" if operations == "load_balancers" else "mine"
    status, found, _detail = await refused(put(getattr(lab.network, operations), name, body))
    assert (status, found) == (400, code)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (_set("properties/networkProfile", {"networkInterfaces": []}), 400, "InvalidParameter"),
        (
            _set("properties/networkProfile/networkInterfaces/0/id", network_id("networkInterfaces", "none")),
            404,
            "NotFound",
        ),
        (_set("properties/osProfile/customData", "not base64!"), 400, "InvalidParameter"),
        (
            _set("properties/osProfile/linuxConfiguration", {"disablePasswordAuthentication": True}),
            400,
            "InvalidParameter",
        ),
        (_set("properties/hardwareProfile/vmSize", "huge"), 400, "InvalidParameter"),
        (_set("properties/storageProfile/dataDisks/0/createOption", "Copy"), 400, "NotModelledByTheLab"),
        (_set("properties/osProfile/windowsConfiguration", {}), 409, "OperationNotAllowed"),
    ],
)
async def test_machine_rules(lab: Lab, change: Change, status: int, code: str) -> None:
    await put(lab.network.virtual_networks, "demo-vnet", bodies.vnet())
    await put(lab.network.network_interfaces, "demo-a-nic", bodies.nic())
    body = vm_body("a")
    change(body)
    assert (await refused(put(lab.compute.virtual_machines, "demo-a", body)))[:2] == (status, code)


@pytest.mark.parametrize(
    "change",
    [
        _set("properties/hardwareProfile/vmSize", "Standard_D4s_v5"),
        _set("properties/osProfile/customData", "b3RoZXI="),
        _set("zones", ["2"]),
        _set("properties/storageProfile/osDisk/name", "other"),
    ],
)
async def test_a_vm_cannot_be_changed_afterwards(lab: Lab, change: Change) -> None:
    await build_cluster(lab, "a")
    body = vm_body("a")
    change(body)
    assert (await refused(put(lab.compute.virtual_machines, "demo-a", body)))[:2] == (409, "PropertyChangeNotAllowed")
    tagged = vm_body("a") | {"tags": {"only": "this"}}
    assert (await put(lab.compute.virtual_machines, "demo-a", tagged)).tags == {"only": "this"}


async def test_what_is_in_use_cannot_be_deleted(lab: Lab) -> None:
    await build_cluster(lab, "a")
    net = lab.network
    for operations, name, code in (
        (net.virtual_networks, "demo-vnet", "InUseSubnetCannotBeDeleted"),
        (net.network_security_groups, "demo-nsg", "InUseNetworkSecurityGroupCannotBeDeleted"),
        (net.nat_gateways, "demo-nat", "InUseNatGatewayCannotBeDeleted"),
        (net.public_ip_addresses, "demo-vip", "PublicIPAddressCannotBeDeleted"),
        (net.network_interfaces, "demo-a-nic", "NicInUse"),
    ):
        assert (await refused(operations.begin_delete(GROUP, name)))[:2] == (400, code)
    assert (await refused(net.subnets.begin_delete(GROUP, "demo-vnet", "nodes")))[1] == "InUseSubnetCannotBeDeleted"
    assert (await refused(lab.compute.disks.begin_delete(GROUP, "demo-a-os")))[:2] == (409, "OperationNotAllowed")
    busy = bodies.nic(public="demo-a-ip")
    assert (await refused(put(net.network_interfaces, "second", busy)))[1] == "PublicIPAddressInUse"
    other = vm_body("a")
    assert (await refused(put(lab.compute.virtual_machines, "second", other)))[1] == "NicInUse"


async def test_a_stale_etag_is_412_and_a_fresh_one_is_not(lab: Lab) -> None:
    groups = lab.network.network_security_groups
    first = await put(groups, "g", bodies.nsg())
    await put(groups, "g", bodies.nsg(200))

    async def change(tag: str) -> Any:
        poller = await groups.begin_create_or_update(GROUP, "g", bodies.nsg(300), headers={"If-Match": tag})
        return await poller.result()

    assert await refused(change(first.etag)) == (412, "PreconditionFailed", "PreconditionFailedEtagMismatch")
    assert (await groups.get(GROUP, "g")).security_rules[0].priority == 200
    await change((await groups.get(GROUP, "g")).etag)
    assert (await groups.get(GROUP, "g")).security_rules[0].priority == 300
    await change("*")
    create_only = groups.begin_create_or_update(GROUP, "g", bodies.nsg(), headers={"If-None-Match": "*"})
    assert (await refused(create_only))[0] == 412


async def test_the_vm_client_s_own_match_conditions(lab: Lab) -> None:
    await build_cluster(lab, "a")
    vms = lab.compute.virtual_machines
    body, shown = vm_body("a") | {"tags": {"x": "y"}}, await vms.get(GROUP, "demo-a")
    await put(vms, "demo-a", body)
    with pytest.raises(ResourceModifiedError):
        await vms.begin_create_or_update(
            GROUP, "demo-a", vm_body("a"), etag=shown.etag, match_condition=MatchConditions.IfNotModified
        )


async def test_requests_arm_would_not_take(lab: Lab) -> None:
    assert (await raw(lab, "GET", GROUP_PATH))[:2] == (400, "MissingApiVersionParameter")
    assert (await raw(lab, "GET", GROUP_PATH, **{"api-version": "new"}))[:2] == (400, "InvalidApiVersionParameter")
    version = {"api-version": "2026-03-01"}
    vip = f"{GROUP_PATH}/providers/Microsoft.Network/publicIPAddresses/v"
    assert (await raw(lab, "PUT", vip, body=b"{", **version))[:2] == (400, "InvalidRequestContent")
    assert (await raw(lab, "PUT", vip, body=[], **version))[:2] == (400, "InvalidRequestContent")
    assert (await raw(lab, "PUT", vip, body={}, **version))[:2] == (400, "LocationRequired")
    large = await lab.service.handle("PUT", vip, version, {}, b" " * (MAX_BODY_BYTES + 1))
    assert large.status == 413
    unknown = f"{GROUP_PATH}/providers/Microsoft.Sql/servers/s"
    assert (await raw(lab, "GET", unknown, **version))[:2] == (404, "InvalidResourceType")
    other = "/subscriptions/99999999-2222-3333-4444-555555555555/resourceGroups"
    assert (await raw(lab, "GET", other, **version))[:2] == (404, "SubscriptionNotFound")
    good = {"location": LOCATION}
    assert (await raw(lab, "PUT", vip.replace(GROUP, "none"), body=good, **version))[:2] == (
        404,
        "ResourceGroupNotFound",
    )
    assert (await raw(lab, "PUT", f"{vip}%20x", body=good, **version))[:2] == (400, "InvalidResourceName")


async def test_a_bearer_token_is_required_and_checked(lab: Lab) -> None:
    version = {"api-version": "2025-04-01"}
    status, code, headers = await raw(lab, "GET", GROUP_PATH, token=None, **version)
    assert (status, code) == (401, "AuthenticationFailed")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert (await raw(lab, "GET", GROUP_PATH, token="a.b.c", **version))[:2] == (401, "InvalidAuthenticationToken")
    expired = lab.issuer.issue("https://management.azure.com", "t", lifetime_s=-1).text
    assert (await raw(lab, "GET", GROUP_PATH, token=expired, **version))[1] == "ExpiredAuthenticationToken"
    foreign = lab.issuer.issue("https://storage.azure.com", "t").text
    assert (await raw(lab, "GET", GROUP_PATH, token=foreign, **version))[1] == "InvalidAuthenticationTokenAudience"


async def test_the_sdk_does_not_trust_another_authority(lab: Lab) -> None:
    with pytest.raises(ServiceRequestError):
        await lab.resources.resource_groups.get(GROUP, connection_verify=True, retry_total=0)
