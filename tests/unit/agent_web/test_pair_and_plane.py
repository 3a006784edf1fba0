"""Two nodes' real network parts against the real control plane over HTTPS: a rotation while their heartbeats go on, and
a certificate that is revoked. Only the machines are missing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from mirror_agent.contract import Heartbeat, NodeName, Phase, Role, Timing
from mirror_agent.core.events import Beat
from mirror_agent.core.model import Instant
from mirror_agent.net.control_plane import ControlPlaneClient
from mirror_agent.net.enrolment import Bootstrap, Enrolled, enrol
from mirror_agent.net.identity import load_credential
from mirror_agent.net.node_certificate import load_node_certificate
from mirror_agent.net.peer import Dialogue, PeerClient, PeerPaths, PeerServer, server_name
from mirror_agent.net.peer_wire import Switch
from mirror_agent.net.renewal import CertificateRenewal, control_plane_issuer
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.paths import Paths
from mirror_agent.web.console_api import ConsoleApi
from mirror_agent.web.peer_console import PeerConsole
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.revoked import RevokedSerials

from tests.agent_samples import Authority as Site
from tests.agent_samples import Recorded, eventually
from tests.control_plane_app import App, running_app
from tests.control_plane_samples import heartbeat
from tests.unit.agent_net.test_peer_wire import beat
from tests.unit.agent_web.control import SampleControl, SampleMirror

HEARTBEAT_S = 0.05
REPORT_S = 0.1
NODES: tuple[NodeName, NodeName] = ("a", "b")


class Bridge:
    """HTTPS in front of the control plane's functions. Its clock moves on a second with every request."""

    def __init__(self, app: App, site: Site) -> None:
        self._app = app
        self._site = site
        self.url = ""

    async def _serve(self, request: web.Request) -> web.Response:
        self._app.clock.advance(1)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        path = request.path.removeprefix("/api/")
        reply = await self._app.send(request.method, path, await request.read(), token=token, version=None)
        return web.Response(status=reply.status, body=reply.content, content_type="application/json")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Bridge]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._site.server()).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Node:
    """The supervisor's wiring of certificates, heartbeats, console and control plane, without its automaton."""

    name: NodeName
    paths: Paths
    bridge: Bridge
    plane_tls: ssl.SSLContext
    cluster_id: str
    log: Recorded = field(default_factory=Recorded)
    answered: int = 0
    sequence: int = 0
    revoked_answers: int = 0
    peers: PeerPaths | None = None

    def __post_init__(self) -> None:
        self.peer: NodeName = "b" if self.name == "a" else "a"
        self.tls = NodeTls(self.paths)
        self.renewal = CertificateRenewal(
            issue=control_plane_issuer(self.bridge.url, load_credential(self.paths), self.plane_tls),
            dns_name=server_name(self.name, self.cluster_id),
            changed=self._changed,
            log=self.log,
            paths=self.paths,
        )
        self.revoked = RevokedSerials(self.paths.revoked, self.log)
        self.plane = ControlPlaneClient(
            url=self.bridge.url,
            credential=load_credential(self.paths),
            configuration_version=2**40,
            interval_s=REPORT_S,
            sample=self._sample,
            on_command=lambda command: None,
            on_configuration=lambda configuration: None,
            on_revoked=self._revoked,
            on_trust=self.renewal.take,
            log=self.log,
            paths=self.paths,
            tls=self.plane_tls,
        )
        self.dialogue = Dialogue(
            cluster_id=self.cluster_id,
            peer=self.peer,
            boot=f"boot-{self.name}",
            beat=self._beat,
            hear=lambda _beat: None,
            reply=lambda _beat: (self._beat(), 4.0),
            answered=self._answered,
            failover=lambda: Switch(True),
            learn_failover=lambda switch: None,
            log=self.log,
        )
        self.server = PeerServer(self.dialogue, context=self.tls.peer_server, host="127.0.0.1", port=0, idle_s=30)
        self.console = ConsoleApi(
            SampleControl(),
            SampleMirror(),
            answer=lambda: ProbeAnswer(True, Role.PRIM, Phase.READY, 4, ""),
            events_after=lambda seq, limit: [],
            configuration=dict,
            cluster="pay",
            node=self.name,
            peer=PeerConsole(
                node=self.peer,
                address="127.0.0.1",
                dns_name=server_name(self.peer, self.cluster_id),
                context=self.tls.peer_client,
            ),
            tls=self.tls.console,
            log=self.log,
            revoked=self.revoked,
            host="127.0.0.1",
            port=0,
        )

    def meet(self, port: int) -> None:
        self.peers = PeerPaths(
            (
                PeerClient(
                    self.dialogue,
                    address="127.0.0.1",
                    port=port,
                    context=self.tls.peer_client,
                    heartbeat_s=HEARTBEAT_S,
                    deadline_s=20,
                ),
            )
        )

    @property
    def issuer(self) -> str:
        return self.renewal.report.issuer_sha256

    def _changed(self) -> None:
        self.tls.reload()
        self.plane.poke()

    def _sample(self) -> Heartbeat:
        self.sequence += 1
        return heartbeat(self.name, sequence=self.sequence, certificate=self.renewal.report)

    def _revoked(self, serials: tuple[str, ...] | None) -> None:
        self.revoked.take(serials)
        self.revoked_answers += 1

    def _beat(self) -> Beat:
        return beat(self.name)

    def _answered(self, _said: Beat, _sent_at: Instant, _promise_s: float) -> None:
        self.answered += 1


@dataclass
class World:
    app: App
    nodes: dict[NodeName, Node]
    ports: dict[NodeName, int]
    consoles: dict[NodeName, int]

    @property
    def a(self) -> Node:
        return self.nodes["a"]

    @property
    def b(self) -> Node:
        return self.nodes["b"]

    async def stage(self) -> str:
        trust = (await self.app.record()).trust
        return "over" if trust is None or trust.rotation is None else trust.rotation.stage.value

    def kinds(self) -> list[str]:
        return [kind for node in self.nodes.values() for kind in node.log.kinds()]


@pytest.fixture
def app() -> Iterator[App]:
    with running_app() as running:
        yield running


@pytest_asyncio.fixture
async def world(app: App, tmp_path: Path) -> AsyncIterator[World]:
    await app.provisioned(timing=Timing().model_dump(mode="json", by_alias=True))
    record = await app.record()
    site = Site(tmp_path / "site", "web CA")
    async with contextlib.AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(Bridge(app, site).running())
        nodes: dict[NodeName, Node] = {}
        for name in NODES:
            paths, log = Paths(tmp_path / name), Recorded()
            bootstrap = Bootstrap(control_plane_url=bridge.url, enrolment_token=await app.enrolment_token(name))
            assert isinstance(await enrol(bootstrap, log=log, paths=paths, tls=site.client()), Enrolled)
            nodes[name] = Node(name, paths, bridge, site.client(), record.id)
        made = World(app, nodes, {}, {})
        for name, node in nodes.items():
            made.ports[name] = await node.server.start()
            stack.push_async_callback(node.server.stop)
            made.consoles[name] = await node.console.start()
            stack.push_async_callback(node.console.stop)
        tasks: list[asyncio.Task[None]] = []
        for node in nodes.values():
            node.meet(made.ports[node.peer])
            assert node.peers is not None
            tasks += [asyncio.create_task(work) for work in (node.peers.run(), node.plane.run(), node.renewal.run())]
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_authority_is_rotated_under_two_nodes_that_never_lose_each_other(world: World) -> None:
    a, b = world.a, world.b
    old = a.issuer
    await eventually(lambda: a.answered > 3 and b.answered > 3 and a.plane.link.connected, "they talk")
    await eventually(lambda: b.plane.link.connected, "and report")
    reply = await world.app.send("POST", "clusters/pay:rotate-ca", {"overlapHours": 0, "reason": "yearly"})
    assert reply.status == 202, reply.content
    new = (await world.app.record()).trust
    assert new is not None
    wanted = {authority.sha256 for authority in new.trusted} - {old}
    await eventually(lambda: {a.issuer, b.issuer} == wanted, "both have certificates of the new authority")
    await eventually(
        lambda: all(set(node.renewal.report.trusted_sha256) == wanted for node in (a, b)), "the old one is dropped"
    )
    end = asyncio.get_running_loop().time() + 20
    while await world.stage() != "over":
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)
    before = (a.answered, b.answered)
    await eventually(lambda: a.answered > before[0] + 3 and b.answered > before[1] + 3, "the connections are kept")
    assert "peer.unreachable" not in world.kinds()
    assert "peer.refused" not in world.kinds()
    for node in (a, b):
        assert load_node_certificate(node.paths).issuer_sha256 in wanted, "on disk, for the mirror and the next start"
        node.meet(world.ports[node.peer])  # a new connection, under the new authority alone
        assert node.peers is not None
        fresh, answered = asyncio.create_task(node.peers.run()), node.answered
        await eventually(lambda node=node, answered=answered: node.answered > answered + 3, "new ones as well")  # type: ignore[misc]
        fresh.cancel()
        await asyncio.gather(fresh, return_exceptions=True)
    operation = (await world.app.send("GET", f"operations/{reply.body['id']}")).body
    assert operation["status"] == "Succeeded"


async def test_a_revoked_certificate_is_refused_after_the_next_report_on_a_connection_that_stands(
    world: World, tmp_path: Path
) -> None:
    app = world.app
    made = await app.send("POST", "clusters/pay/credentials", {"name": "ann", "role": "Monitor"})
    link = made.body["url"].rpartition("/")[2]
    files = (await app.send("POST", "credential-downloads", token=link, version=None)).body
    person = client_context(files, tmp_path)
    base = f"https://127.0.0.1:{world.consoles['a']}/api/v1/status"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=person, limit=1)) as session:

        async def ask() -> int:
            async with session.get(base, server_hostname=server_name("a", world.a.cluster_id)) as answer:
                await answer.read()
                return answer.status

        assert await ask() == 200
        assert (await app.send("DELETE", f"clusters/pay/credentials/{made.body['id']}")).status == 200
        reports = world.a.revoked_answers
        await eventually(lambda: world.a.revoked_answers > reports + 1, "the node has reported since")
        assert await ask() == 403
    assert Timing().control_plane_heartbeat_s * 2 <= 60, "by default it takes less than a minute"


def client_context(files: dict[str, str], directory: Path) -> ssl.SSLContext:
    """A browser with the downloaded file."""
    bag = pkcs12.load_pkcs12(base64.b64decode(files["pkcs12"]), files["password"].encode())
    assert bag.key is not None
    assert bag.cert is not None
    pair = directory / "person.pem"
    plain = serialization.NoEncryption()
    key = bag.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    pair.write_bytes(bag.cert.certificate.public_bytes(serialization.Encoding.PEM) + key)
    context = ssl.create_default_context(cadata=files["caPem"])
    context.load_cert_chain(pair)
    return context
