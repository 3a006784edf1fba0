"""Heartbeats on two paths at once, over real TLS on loopback addresses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.core.events import Beat
from mirror_agent.core.model import Epoch, Instant, Role
from mirror_agent.net.peer import Dialogue, PeerClient, PeerPaths, PeerServer, tls_context
from mirror_agent.net.peer_wire import Switch

from tests.agent_samples import Authority, Recorded, eventually
from tests.unit.agent_net.test_peer_wire import beat

CLUSTER = "c-1"
PATHS = ("127.0.0.21", "127.0.0.22")
HEARTBEAT_S = 0.02


def issue(authority: Authority, directory: Path, node: str) -> dict[str, Path]:
    """A node's certificate with the names both sides check."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, key_file = directory / f"{node}.pem", directory / f"{node}.key"
    certificate.write_text(
        authority.sign(key.public_key(), f"demo-{node}", names=(x509.DNSName(f"{node}.{CLUSTER}.mirror"),))
    )
    key_file.write_bytes(authority.private_pem(key))
    return {"certificate": certificate, "key": key_file, "ca": authority.path}


@dataclass
class Side:
    """One node's half of the dialogue."""

    node: str
    peer: str
    epoch: int = 4
    switch: Switch = field(default_factory=lambda: Switch(True))
    heard: list[Beat] = field(default_factory=list)
    answers: list[tuple[Beat, Instant, float]] = field(default_factory=list)
    learnt: list[Switch] = field(default_factory=list)
    log: Recorded = field(default_factory=Recorded)

    def __post_init__(self) -> None:
        self.dialogue = Dialogue(
            cluster_id=CLUSTER,
            peer=self.peer,
            boot=f"boot-{self.node}",
            beat=self.beat,
            hear=self.heard.append,
            reply=lambda _beat: (self.beat(), 4.0),
            answered=lambda said, sent_at, promise_s: self.answers.append((said, sent_at, promise_s)),
            failover=lambda: self.switch,
            learn_failover=self.learnt.append,
            log=self.log,
        )

    def beat(self) -> Beat:
        return beat(self.node, Role.SECOND, self.epoch)


@dataclass
class Bench:
    a: Side
    b: Side
    servers: dict[str, PeerServer]
    paths: PeerPaths
    port: int
    running: asyncio.Task[None]

    def reached(self) -> set[str]:
        return {address for address, failure in self.paths.conditions().items() if not failure}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    authority = Authority(tmp_path / "ca")
    a, b = Side("a", "b"), Side("b", "a")
    files = issue(authority, tmp_path, "b")
    context: ssl.SSLContext = tls_context(server=True, **files)
    servers: dict[str, PeerServer] = {}
    port = 0
    for address in PATHS:
        servers[address] = PeerServer(b.dialogue, context=context, host=address, port=port, idle_s=30)
        port = await servers[address].start()
    client = tls_context(server=False, **issue(authority, tmp_path, "a"))
    clients = tuple(
        PeerClient(
            a.dialogue, address=address, port=port, context=lambda: client, heartbeat_s=HEARTBEAT_S, deadline_s=10
        )
        for address in PATHS
    )
    paths = PeerPaths(clients)
    made = Bench(a, b, servers, paths, port, asyncio.create_task(paths.run()))
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)
    for server in servers.values():
        await server.stop()


async def test_both_paths_carry_heartbeats(bench: Bench) -> None:
    await eventually(lambda: bench.reached() == set(PATHS), "both paths answer")
    await eventually(lambda: len(bench.a.answers) > 4 and len(bench.b.heard) > 4, "both sides hear each other")
    said, _, promise_s = bench.a.answers[-1]
    assert (said.node, promise_s) == ("b", 4.0)


async def test_one_broken_path_is_not_a_silent_peer(bench: Bench) -> None:
    await eventually(lambda: bench.reached() == set(PATHS), "both paths answer")
    broken, left = PATHS
    await bench.servers[broken].stop()
    await eventually(lambda: bench.reached() == {left}, "one path is down")
    before = len(bench.a.answers)
    await eventually(lambda: len(bench.a.answers) > before + 4, "the other one goes on")
    assert ("peer.unreachable", broken) in [(kind, fields["path"]) for kind, fields in bench.a.log.events]


async def test_what_is_heard_never_goes_back(bench: Bench) -> None:
    """Two paths with delays of their own deliver in any order; the facts only move on."""
    await eventually(lambda: bench.reached() == set(PATHS), "both paths answer")
    for epoch in range(5, 40):
        bench.a.epoch = bench.b.epoch = epoch
        bench.paths.poke()
        await asyncio.sleep(0)
    await eventually(lambda: bench.b.heard[-1].epoch == 39, "the news has arrived")
    await eventually(lambda: bench.a.answers[-1][0].epoch == 39, "and so has the answer")
    heard: list[Epoch] = [said.epoch for said in bench.b.heard]
    assert heard == sorted(heard)
    answered = [said.epoch for said, _, _ in bench.a.answers]
    assert answered == sorted(answered)


async def test_the_switch_travels_both_ways(bench: Bench) -> None:
    bench.a.switch = Switch(False, 9, "ann", "patch day")
    await eventually(lambda: bench.a.switch in bench.b.learnt, "with the heartbeat")
    bench.b.switch = Switch(True, 10, "bob", "done")
    await eventually(lambda: bench.b.switch in bench.a.learnt, "with the answer")


async def test_a_node_of_another_cluster_is_refused(bench: Bench, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "other")
    stranger = tls_context(server=False, **issue(authority, tmp_path / "other", "a"))
    client = PeerClient(
        bench.a.dialogue,
        address=PATHS[0],
        port=bench.port,
        context=lambda: stranger,
        heartbeat_s=HEARTBEAT_S,
        deadline_s=10,
    )
    running = asyncio.create_task(client.run())
    await eventually(lambda: client.failure not in ("", "not tried yet"), "no conversation")
    assert "certificate" in client.failure.lower()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
