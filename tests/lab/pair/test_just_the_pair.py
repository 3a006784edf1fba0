"""The template for a pair without a control plane, deployed in a lab: nothing but its two machines and the witness.

`make pair`; some minutes. The bodies are the template's own (see `azure`), the machines boot its custom data, and what
follows is done with the template's outputs alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from lab.control import LabClient
from lab.demo.writer import LedgerTarget, Writer
from tests.lab.pair.azure import LabAzure
from tests.lab.pair.conftest import Place
from tests.lab.pair.people import Browser, imported, stranger
from tests.unit.infra.arm_deployment import Deployment, Provider, deploy
from tests.unit.infra.sent_bodies import template

BOOT_DEADLINE_S: Final = 480.0
FAILOVER_DEADLINE_S: Final = 120.0
POLL_S: Final = 1.0
WRITES: Final = 60
PORT: Final = 8080


@dataclass(frozen=True)
class Pair:
    place: Place
    azure: LabAzure
    deployment: Deployment

    @property
    def outputs(self) -> dict[str, Any]:
        return self.deployment.outputs

    async def mirrorctl(self, node: str, *words: str, given: str = "") -> dict[str, Any]:
        """`given`: its standard input. Empty while the node does not answer."""
        vm = self.azure.shown[f"pair-{node}"]["id"]
        words = ("/opt/mirrorplane/venv/bin/mirrorctl", *words, "-o json")
        line = f"printf '%s\\n' '{given}' | {' '.join(words)}"
        done = await self.place.cloud.provider.run_command(vm, line)
        found: dict[str, Any] = json.loads(done.stdout) if done.exit_code == 0 else {}
        return found

    async def until_roles(self, wanted: set[str], deadline_s: float) -> dict[str, str]:
        """Node → role and phase, once they are as wanted."""
        limit = time.monotonic() + deadline_s
        while True:
            said = {node: await self.mirrorctl(node, "status") for node in ("a", "b")}
            roles = {node: f"{s.get('role', '?')} {s.get('phase', '')}" for node, s in said.items()}
            if set(roles.values()) == wanted:
                return roles
            assert time.monotonic() < limit, f"{roles} within {deadline_s:g} s; {await self.journals()}"
            await asyncio.sleep(POLL_S)

    async def journals(self) -> str:
        """The end of what the first boot and the agent said, for a failure."""
        return await asyncio.to_thread(self._journals)

    def _journals(self) -> str:
        said = []
        for node in ("a", "b"):
            machine = self.place.cloud.provider.machines.get(self.azure.shown[f"pair-{node}"]["id"]).machine
            for log in sorted(machine.spec.directory.rglob("*.log")):
                said.append(f"{node} {log.name}: {log.read_text(errors='replace')[-3000:]}")
        return "\n".join(said)


async def deployed(place: Place) -> Pair:
    azure = await asyncio.to_thread(LabAzure.of, place.cloud)

    def run() -> Deployment:
        azure.group()
        provider = Provider(put=azure.put, sas=azure.sas, subscription=place.cloud.subscription_id)
        body = template("cluster/azuredeploy.json")
        return deploy(body, place.parameters, group="just-the-pair", provider=provider)

    done = await asyncio.to_thread(run)
    return Pair(place, azure, done)


@pytest.mark.lab
@pytest.mark.azurite
@pytest.mark.pair
async def test_a_pair_lives_without_a_control_plane(place: Place, tmp_path: Path) -> None:
    pair = await deployed(place)
    roles = await pair.until_roles({"PRIM ready", "SECOND ready"}, BOOT_DEADLINE_S)
    primary = next(node for node, role in roles.items() if role == "PRIM ready")
    other = "b" if primary == "a" else "a"
    status = await pair.mirrorctl(primary, "status")
    assert status["controlPlane"] == "no control plane"
    assert status["certificate"]["renewalFailure"] == ""

    names = pair.azure.names()
    async with Browser(names, stranger()) as browser:
        await the_link_works_once(pair, browser, tmp_path)
        await the_other_node_gives_access_too(pair, browser, other)

    address = pair.azure.address("pair-vip")
    async with Writer(lambda: LedgerTarget(address, PORT), tmp_path / "journal.jsonl") as writer:
        await writer.wait_for(WRITES, deadline_s=FAILOVER_DEADLINE_S)
        await LabClient(place.cloud.info.control_socket).acall("kill", node=f"pair-{primary}")
        await writer.wait_for(WRITES, deadline_s=FAILOVER_DEADLINE_S)
        await LabClient(place.cloud.info.control_socket).acall("start", node=f"pair-{primary}")
        after = await pair.until_roles({"PRIM ready", "SECOND ready"}, BOOT_DEADLINE_S)
        assert after[other] == "PRIM ready"
        await writer.wait_for(WRITES, deadline_s=FAILOVER_DEADLINE_S)
        await a_lost_machine_is_replaced(pair, lost=primary, survivor=other)
        await writer.wait_for(WRITES, deadline_s=FAILOVER_DEADLINE_S)
    target = LedgerTarget(address, PORT)
    try:
        stored = await target.everything()
    finally:
        await target.close()
    assert set(writer.acknowledged) - stored == set(), "acknowledged writes are missing"


async def a_lost_machine_is_replaced(pair: Pair, *, lost: str, survivor: str) -> None:
    """Its system disk is gone and its secret was used: the other node, which has the authority too, admits it."""
    machines = pair.deployment.of_type("Microsoft.Compute/virtualMachines")
    (resource,) = (machine for machine in machines if machine.name == f"pair-{lost}")
    await asyncio.to_thread(pair.azure.replace, resource)
    admission = await pair.mirrorctl(survivor, "pair", "admit")
    limit = time.monotonic() + BOOT_DEADLINE_S
    while not await pair.mirrorctl(lost, "pair", "secret", given=admission["secret"]):
        assert time.monotonic() < limit, f"the new machine has no agent; {await pair.journals()}"
        await asyncio.sleep(POLL_S)
    roles = await pair.until_roles({"PRIM ready", "SECOND ready"}, BOOT_DEADLINE_S)
    assert roles[survivor] == "PRIM ready"


async def the_link_works_once(pair: Pair, browser: Browser, directory: Path) -> None:
    link = pair.outputs["credentialUrl"]
    page, text = await browser.get(link)
    assert page == 200
    assert "credential.js" in text
    status, files = await browser.redeem(link)
    assert status == 200, files
    again, refused = await browser.redeem(link)
    assert (again, refused["error"]["code"]) == (409, "CredentialLinkUsed")

    console = f"{pair.outputs['consoleUrl']}api/v1/status"
    without, _ = await browser.get(console)
    assert without == 401
    async with Browser(browser.names, imported(files, directory)) as known:
        status, body = await known.get(console)
        assert status == 200
        assert json.loads(body)["controlPlane"] == "no control plane"
        status, page_text = await known.get(pair.outputs["testUrl"])
        assert status == 200
        assert "was answered by node" in page_text


async def the_other_node_gives_access_too(pair: Pair, browser: Browser, node: str) -> None:
    """The authority is on both; a revoked certificate is refused by both."""
    offered = await pair.mirrorctl(node, "credentials", "link", "--name", "somebody", "--role", "Monitor")
    limit = time.monotonic() + FAILOVER_DEADLINE_S
    while True:
        try:
            status, files = await browser.redeem(offered["url"])
            break
        except OSError:  # the port opens within seconds
            assert time.monotonic() < limit, "the port of the other node did not open"
            await asyncio.sleep(POLL_S)
    assert (status, files["role"]) == (200, "Monitor")
