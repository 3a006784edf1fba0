"""Azure's own view of a cluster, through the production collectors and the vendor's unmodified clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from azure.core.credentials import AccessToken

from lab.arm.availability import TYPE
from lab.arm.faults import Fault, FaultKind
from lab.arm.provider import PowerState
from lab.control import CommandRefused
from lab.identity import TokenIssuer
from lab.lb.balancer import MemberHealth
from lab.monitor.outages import Outages
from lab.monitor.recorder import Recorder
from lab.monitor.server import MonitorServer, serve_monitor
from shared.azure.arm import AzureMachines
from shared.azure.observe import AzurePlatform, MonitorEndpoints
from shared.azure.session import AzureSession
from shared.azure.settings import AzureSettings
from shared.health.facts import Availability, CollectorFailed, Fact, FactKind, Notice, Power, ResourceHealthSeen
from shared.model.cluster import ClusterRecord, ObservedNode, ObservedResources
from tests.control_plane_samples import record
from tests.lab.arm.bodies import GROUP, SUBSCRIPTION
from tests.lab.arm.conftest import Lab
from tests.lab.arm.test_resources import build_cluster

pytestmark = pytest.mark.lab


class Credential:
    """A synchronous TokenCredential over the lab's issuer."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        token = self._issuer.issue(scopes[0].removesuffix("/.default"), "test")
        return AccessToken(token.text, token.expires_on)


@dataclass
class Azure:
    """`up`: what the load balancer's probes say of the two nodes."""

    lab: Lab
    platform: AzurePlatform
    recorder: Recorder
    outages: Outages
    cluster: ClusterRecord
    up: dict[str, bool] = field(default_factory=lambda: {"demo-a": True, "demo-b": True})

    async def look(self) -> list[Fact]:
        await self.recorder.sample()
        return await self.platform.look(self.cluster, datetime.now(UTC))


@pytest_asyncio.fixture
async def azure(lab: Lab, tls_files: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Azure]:
    context, ca = tls_files
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
    await build_cluster(lab, "a", "b")
    up: dict[str, bool] = {}

    async def health(_: str) -> list[MemberHealth]:
        return [MemberHealth("probe", name, answers, 10, "L7OK") for name, answers in up.items()]

    outages = Outages()
    recorder = Recorder(lambda: lab.provider.balancers.values(), health)
    runner, base = await serve_monitor(MonitorServer(recorder, lab.issuer, outages), "127.0.0.1", 0, context)
    session = AzureSession(AzureSettings(SUBSCRIPTION, lab.url), Credential(lab.issuer))
    nodes = {name: ObservedNode(private_address=f"10.0.0.{at}") for name, at in (("a", 4), ("b", 5))}
    cluster = record("demo").model_copy(update={"resources": ObservedResources(nodes=nodes)})
    platform = AzurePlatform(session, AzureMachines(session), MonitorEndpoints(base, f"{base}/v1"))
    made = Azure(lab, platform, recorder, outages, cluster, up)
    up |= {"demo-a": True, "demo-b": True}
    yield made
    session.close()
    await runner.cleanup()


def values(facts: list[Fact], kind: FactKind) -> dict[str | None, Any]:
    return {fact.subject: fact.value for fact in facts if fact.kind is kind}


def failed(facts: list[Fact]) -> set[str]:
    return {fact.value.collector for fact in facts if isinstance(fact.value, CollectorFailed)}


async def test_all_is_well(azure: Azure) -> None:
    facts = await azure.look()
    assert failed(facts) == set(), [fact.value for fact in facts]
    assert values(facts, FactKind.BACKEND) == {"a": Availability(100.0), "b": Availability(100.0)}
    assert values(facts, FactKind.FRONTEND) == {None: Availability(100.0)}
    assert {value.state for value in values(facts, FactKind.POWER).values()} == {"running"}
    assert {value.state for value in values(facts, FactKind.RESOURCE_HEALTH).values()} == {"Available"}
    assert values(facts, FactKind.NOTICE) == {}


async def test_one_node_then_none_answers_its_probe(azure: Azure) -> None:
    azure.up |= {"demo-b": False}
    facts = await azure.look()
    assert values(facts, FactKind.BACKEND) == {"a": Availability(100.0), "b": Availability(0.0)}
    assert values(facts, FactKind.FRONTEND) == {None: Availability(100.0)}
    azure.up |= {"demo-a": False}
    for _ in range(2):
        facts = await azure.look()
    notices = [fact.value for fact in facts if isinstance(fact.value, Notice)]
    assert [notice.summary for notice in notices] == ["NoHealthyBackends (Critical)"], "told once"
    assert values(facts, FactKind.FRONTEND)[None].percent < 100.0


@pytest.mark.parametrize(("stop", "customer"), [("the machine died", False), ("power_off", True), ("deallocate", True)])
async def test_who_stopped_it(azure: Azure, stop: str, customer: bool) -> None:
    if customer:
        begin: Callable[..., Any] = getattr(azure.lab.compute.virtual_machines, f"begin_{stop}")
        await (await begin(GROUP, "demo-b")).result()
    else:
        vm = next(name for name in azure.lab.provider.vms if name.endswith("/demo-b"))
        azure.lab.provider.power[vm] = PowerState.STOPPED
    facts = await azure.look()
    seen = values(facts, FactKind.RESOURCE_HEALTH)
    assert isinstance(seen["b"], ResourceHealthSeen)
    assert (seen["a"].state, seen["b"].state) == ("Available", "Unavailable")
    assert (seen["a"].customer_initiated, seen["b"].customer_initiated) == (False, customer)
    power = values(facts, FactKind.POWER)["b"]
    assert isinstance(power, Power)
    assert power.state == ("deallocated" if stop == "deallocate" else "stopped")
    if customer:
        await (await azure.lab.compute.virtual_machines.begin_start(GROUP, "demo-b")).result()
        assert values(await azure.look(), FactKind.RESOURCE_HEALTH)["b"].state == "Available"


async def test_a_source_that_is_away_is_a_fact_and_the_others_go_on(azure: Azure) -> None:
    await azure.outages.begin("metrics")
    await azure.outages.begin("logs", status=500)
    azure.lab.service.faults.add(Fault(FaultKind.REFUSE, type=TYPE, status=503, code="ServerBusy", times=2))
    facts = await azure.look()
    assert failed(facts) == {"balancer-metrics", "balancer-log", "resource-health"}
    assert {value.state for value in values(facts, FactKind.POWER).values()} == {"running"}
    await azure.outages.end()
    assert failed(await azure.look()) == set()
    with pytest.raises(CommandRefused, match="did you mean 'metrics'"):
        await azure.outages.begin("metric")


async def test_a_cluster_the_balancer_does_not_know_yet(azure: Azure) -> None:
    facts = await azure.platform.look(record("other"), datetime.now(UTC))
    assert {value.state for value in values(facts, FactKind.POWER).values()} == {"absent"}
    assert "balancer-metrics" in failed(facts)
