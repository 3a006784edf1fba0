"""The template of a pair without a control plane: what it opens, what it hides, and that both halves fit together."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from functools import cache
from typing import Any, Final

import pytest
from mirror_agent.contract import CONSOLE_PORT, HEARTBEAT_PORT, MIRROR_PORT, PROBE_PATH, PROBE_PORT, Timing
from mirror_agent.pair.documents import ADMISSION_PORT, FIRST_LINK_ID, ROW_KEY, PairFacts
from mirror_agent.pair.links import link_token

from shared.provisioning.cloudinit import BootParameters, cloud_config
from shared.provisioning.images import IMAGES
from tests.unit.infra.arm_deployment import PAPER, Deployment, Resource
from tests.unit.infra.arm_expressions import TemplateError
from tests.unit.infra.sent_bodies import EVERY_OPTION_OF_A_PAIR, PAIR, pair, template

NSG: Final = "Microsoft.Network/networkSecurityGroups"
OPEN: Final[dict[str, Any]] = {"adminAddresses": ["203.0.113.0/24"], "clientAddresses": ["Internet"]}


@cache
def plain() -> Deployment:
    return pair()


def machines(deployment: Deployment) -> list[Resource]:
    return deployment.of_type("Microsoft.Compute/virtualMachines")


def boot(machine: Resource) -> dict[str, Any]:
    text = base64.b64decode(machine.body["properties"]["osProfile"]["customData"]).decode()
    assert text.startswith("#cloud-config\n")
    document: dict[str, Any] = json.loads(text.partition("\n")[2])
    return document


def told(machine: Resource) -> dict[str, Any]:
    (content,) = (
        entry["content"] for entry in boot(machine)["write_files"] if entry["path"].endswith("bootstrap.json")
    )
    found: dict[str, Any] = json.loads(content)
    return found


def rules(deployment: Deployment) -> dict[str, dict[str, Any]]:
    listed = deployment.only(NSG).body["properties"]["securityRules"]
    return {rule["name"]: rule["properties"] for rule in listed}


def test_nobody_outside_reaches_anything_unless_it_is_said() -> None:
    allowed = {name for name, rule in rules(plain()).items() if rule["access"] == "Allow"}
    assert allowed == {"probe", "peer", "handover"}
    sources = {rules(plain())[name]["sourceAddressPrefix"] for name in allowed}
    assert sources == {"AzureLoadBalancer", "10.0.0.0/24"}
    assert rules(plain())["deny-all"]["priority"] == 4096


def test_what_is_opened_is_opened_to_the_given_addresses() -> None:
    opened = rules(pair(**OPEN))
    assert opened["administration"]["sourceAddressPrefix"] == "203.0.113.0/24"
    assert set(opened["administration"]["destinationPortRanges"]) == {"22", str(CONSOLE_PORT), str(ADMISSION_PORT)}
    assert opened["clients"]["sourceAddressPrefix"] == "Internet"
    assert set(opened["clients"]["destinationPortRanges"]) == {str(CONSOLE_PORT), "8080"}
    several = rules(pair(**EVERY_OPTION_OF_A_PAIR))["administration"]
    assert "sourceAddressPrefix" not in several
    assert several["sourceAddressPrefixes"] == ["203.0.113.0/24", "198.51.100.7/32"]
    priorities = [rule["priority"] for rule in opened.values()]
    assert len(set(priorities)) == len(priorities)


def test_the_nodes_reach_each_other_and_the_balancer_reaches_the_probe() -> None:
    ports = {str(port) for port in (HEARTBEAT_PORT, MIRROR_PORT, CONSOLE_PORT, ADMISSION_PORT)}
    assert set(rules(plain())["peer"]["destinationPortRanges"]) == ports
    assert rules(plain())["probe"]["destinationPortRange"] == str(PROBE_PORT)
    (probe,) = plain().only("Microsoft.Network/loadBalancers").body["properties"]["probes"]
    said = probe["properties"]
    assert (said["port"], said["requestPath"], said["noHealthyBackendsBehavior"]) == (
        PROBE_PORT,
        PROBE_PATH,
        "AllProbedDown",
    )
    assert (said["intervalInSeconds"], said["probeThreshold"]) == (
        Timing().probe_interval_s,
        Timing().probe_threshold,
    ), "the agent's time budget counts on these"


def test_every_rule_of_the_balancer_leads_to_the_probed_nodes() -> None:
    body = pair(applicationPorts=[8080, 5432]).only("Microsoft.Network/loadBalancers").body["properties"]
    assert [rule["properties"]["frontendPort"] for rule in body["loadBalancingRules"]] == [CONSOLE_PORT, 8080, 5432]
    for rule in body["loadBalancingRules"]:
        said = rule["properties"]
        assert said["backendPort"] == said["frontendPort"]
        assert (said["enableTcpReset"], said["disableOutboundSnat"], said["enableFloatingIP"]) == (True, True, False)
        assert said["probe"]["id"].endswith("/loadBalancers/pair-lb/probes/ready")
        assert said["backendAddressPool"]["id"].endswith("/loadBalancers/pair-lb/backendAddressPools/nodes")


def test_ports_of_the_nodes_themselves_are_neither_balanced_nor_opened() -> None:
    own = [22, MIRROR_PORT, HEARTBEAT_PORT, ADMISSION_PORT, PROBE_PORT, CONSOLE_PORT]
    made = pair(**OPEN, applicationPorts=[*own, 8080, 8080])
    body = made.only("Microsoft.Network/loadBalancers").body["properties"]
    assert [rule["properties"]["frontendPort"] for rule in body["loadBalancingRules"]] == [CONSOLE_PORT, 8080]
    assert set(rules(made)["clients"]["destinationPortRanges"]) == {str(CONSOLE_PORT), "8080"}
    assert rules(made)["handover"]["destinationPortRanges"] == ["8080"]
    assert "handover" not in rules(pair(applicationPorts=own))


def test_one_zone_holds_both_nodes() -> None:
    made = pair(zones=["3"])
    assert [machine.body["zones"] for machine in machines(made)] == [["3"], ["3"]]
    addresses = made.of_type("Microsoft.Network/publicIPAddresses")
    assert [zones for one in addresses if len(zones := one.body.get("zones", [])) == 1] == [["3"], ["3"]]


def test_the_machines_have_no_identity_for_nothing_uses_one() -> None:
    assert not [machine for machine in machines(plain()) if "identity" in machine.body]


def test_the_two_nodes_stand_in_two_zones_and_leave_through_a_gateway_of_their_own() -> None:
    assert [machine.body["zones"] for machine in machines(plain())] == [["1"], ["2"]]
    assert [disk.body["zones"] for disk in plain().of_type("Microsoft.Compute/disks")] == [["1"], ["2"]]
    (subnet,) = plain().only("Microsoft.Network/virtualNetworks").body["properties"]["subnets"]
    assert subnet["properties"]["defaultOutboundAccess"] is False
    assert subnet["properties"]["natGateway"]["id"].endswith("/natGateways/pair-nat")
    assert not [machine for machine in machines(pair(zones=[])) if "zones" in machine.body]


def test_both_are_told_the_same_but_who_they_are_and_the_link() -> None:
    a, b = (told(machine) for machine in machines(plain()))
    facts = [PairFacts.model_validate(document["pair"]) for document in (a, b)]
    assert [found.node for found in facts] == ["a", "b"]
    assert facts[0].link_secret is not None
    assert facts[1].link_secret is None
    assert facts[0].model_copy(update={"node": "b", "link_secret": None}) == facts[1]
    addresses = [
        nic.body["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"]
        for nic in plain().of_type("Microsoft.Network/networkInterfaces")
    ]
    assert addresses == [place.address for place in facts[0].nodes.values()]
    assert {name: value for name, value in a.items() if name != "pair"} == {
        name: value for name, value in b.items() if name != "pair"
    }


def test_the_link_in_the_outputs_is_the_one_node_a_was_told() -> None:
    facts = PairFacts.model_validate(told(machines(plain())[0])["pair"])
    assert facts.link_secret is not None
    token = link_token(facts.cluster_id, FIRST_LINK_ID, facts.link_secret)
    host = facts.nodes["a"].host_name
    assert plain().outputs["credentialUrl"] == f"https://{host}:{ADMISSION_PORT}/#/credential/{token}"
    assert plain().outputs["consoleUrl"] == f"https://{facts.virtual_name}:{CONSOLE_PORT}/"
    assert plain().outputs["testUrl"] == f"https://{facts.virtual_name}:{CONSOLE_PORT}/mosaic"


def test_secrets_are_made_anew_for_every_deployment_and_are_no_plain_parameters() -> None:
    first, second = (PairFacts.model_validate(told(machines(pair())[0])["pair"]) for _ in range(2))
    assert first.secret != second.secret
    assert first.link_secret != second.link_secret
    assert len({first.secret, first.link_secret}) == 2
    for document in modules(template("cluster/azuredeploy.json")):
        for name, entry in document.get("parameters", {}).items():
            secret = re.search(r"[Ss]ecret$|[Pp]assword$|Token$|^pair$", name)
            assert (entry["type"].lower().startswith("secure")) == (secret is not None), name
            assert not entry["type"].startswith("secure") or not isinstance(entry.get("defaultValue"), dict)


def modules(document: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [
        entry["properties"]["template"]
        for entry in document["resources"].values()
        if "properties" in entry and "template" in entry["properties"]
    ]
    return [document, *(found for entry in inner for found in modules(entry))]


def test_the_signature_is_for_this_clusters_row_alone() -> None:
    asked: list[dict[str, Any]] = []

    def sas(resource_id: str, version: str, body: Any) -> dict[str, str]:
        asked.append(dict(body))
        assert resource_id.endswith(f"/storageAccounts/{account}")
        return {"serviceSasToken": "sig=s"}

    account = plain().only("Microsoft.Storage/storageAccounts").name
    deployment = pair(replace(PAPER, sas=sas))
    (body,) = asked
    facts = PairFacts.model_validate(told(machines(deployment)[0])["pair"])
    assert body["canonicalizedResource"] == f"/table/{account}/witness"
    assert (body["startPk"], body["endPk"]) == (facts.cluster_id, facts.cluster_id)
    assert (body["startRk"], body["endRk"]) == (ROW_KEY, ROW_KEY)
    assert body["signedPermission"] == "rau", "read, add, update; never delete"
    assert body["signedProtocol"] == "https"
    assert body["signedExpiry"] > "2036"


def test_the_witness_outlives_a_zone_and_has_its_table() -> None:
    account = plain().only("Microsoft.Storage/storageAccounts")
    assert account.body["sku"]["name"] == "Standard_ZRS"
    properties = account.body["properties"]
    assert (properties["supportsHttpsTrafficOnly"], properties["minimumTlsVersion"]) == (True, "TLS1_2")
    table = plain().only("Microsoft.Storage/storageAccounts/tableServices/tables")
    assert table.name.endswith("/default/witness")


def test_the_boot_document_is_the_control_planes_but_for_what_the_node_is_told() -> None:
    wanted = cloud_config(
        BootParameters(
            cluster="pair",
            cluster_id="x",
            node="a",
            control_plane_url="https://plane.example.net",
            enrolment_token="t",
            wheel_name="w.whl",
            wheel_sha256="0" * 64,
            packages=IMAGES["debian-12"].packages,
        )
    )
    found = boot(machines(plain())[0])
    for document in (wanted, found):
        document["write_files"][0].pop("content")
    assert found == wanted


@pytest.mark.parametrize("name", ["debian-12", "debian-13", "ubuntu-24.04"])
def test_an_image_is_the_one_the_control_plane_would_take(name: str) -> None:
    image = IMAGES[name]
    reference = machines(pair(image=name))[0].body["properties"]["storageProfile"]["imageReference"]
    wanted = {"publisher": image.publisher, "offer": image.offer, "sku": image.sku, "version": image.version}
    assert reference == wanted


def test_a_password_takes_the_place_of_the_key() -> None:
    with_key, with_password = (machines(found)[0] for found in (plain(), pair(**EVERY_OPTION_OF_A_PAIR)))
    profile = with_key.body["properties"]["osProfile"]
    assert profile["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert "adminPassword" not in profile
    profile = with_password.body["properties"]["osProfile"]
    assert profile["linuxConfiguration"]["disablePasswordAuthentication"] is False
    assert "ssh" not in profile["linuxConfiguration"]


def test_windows_is_refused_until_there_is_a_bootstrap_for_it() -> None:
    with pytest.raises(TemplateError, match="allowed"):
        pair(os="Windows")


def test_custom_data_stays_below_the_limit_of_azure() -> None:
    for machine in machines(pair(**{**EVERY_OPTION_OF_A_PAIR, "packages": ["x" * 40] * 50})):
        assert len(machine.body["properties"]["osProfile"]["customData"]) < 65_535


def test_every_parameter_a_person_gives_is_described_and_few_have_no_default() -> None:
    parameters = template("cluster/azuredeploy.json")["parameters"]
    for name, entry in parameters.items():
        assert entry["metadata"]["description"], name
    assert {name for name, entry in parameters.items() if "defaultValue" not in entry} == set(PAIR) - {"sshPublicKey"}


def test_what_is_too_long_for_an_expression_stands_in_variables() -> None:
    """Azure refuses expressions of more than 24,576 characters."""

    def texts(value: Any) -> list[str]:
        match value:
            case str():
                return [value]
            case dict():
                return [text for entry in value.values() for text in texts(entry)]
            case list():
                return [text for entry in value for text in texts(entry)]
            case _:
                return []

    longest = max(len(text) for text in texts(template("cluster/azuredeploy.json")) if text.startswith("["))
    assert longest < 24_576
