"""The lab's ARM takes every body of the template for a pair, in the order of its dependencies; no machine is booted."""

from __future__ import annotations

import asyncio
import base64
import json

from mirror_agent.pair.documents import PairFacts

from tests.lab.arm.bodies import SUBSCRIPTION
from tests.lab.arm.conftest import Lab
from tests.lab.pair.azure import GROUP, LabAzure, session_for
from tests.unit.infra.arm_deployment import Deployment, Provider, deploy
from tests.unit.infra.sent_bodies import PAIR, template


async def test_the_labs_arm_takes_the_template(empty_lab: Lab) -> None:
    token = empty_lab.issuer.issue("https://management.azure.com", "test").text
    azure = LabAzure(empty_lab.url, SUBSCRIPTION, session_for(token, empty_lab.ca), storage=None)

    def run() -> Deployment:
        azure.group()
        provider = Provider(put=azure.put, sas=azure.sas, subscription=SUBSCRIPTION)
        return deploy(template("cluster/azuredeploy.json"), PAIR, group=GROUP, provider=provider)

    deployment = await asyncio.to_thread(run)
    assert deployment.outputs["vmNames"] == ["pair-a", "pair-b"]
    assert deployment.outputs["virtualName"] in azure.names()
    machines = deployment.of_type("Microsoft.Compute/virtualMachines")
    told = [facts_of(machine.body["properties"]["osProfile"]["customData"]) for machine in machines]
    assert [facts.node for facts in told] == ["a", "b"]
    for facts in told:
        assert {place.host_name for place in facts.nodes.values()} < set(azure.names())
    assert told[0].link_secret is not None
    assert told[1].link_secret is None


def facts_of(custom_data: str) -> PairFacts:
    document = json.loads(base64.b64decode(custom_data).decode().partition("\n")[2])
    return PairFacts.model_validate(json.loads(document["write_files"][0]["content"])["pair"])
