"""Nodes of a farm ask one another over mutual TLS on the loopback: who is answered, and what a silence means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from cryptography import x509
from mirror_agent.contract import Peer, Phase, Role
from mirror_agent.farm.neighbours import PATH, Neighbours, NeighbourServer, Told
from mirror_agent.net.peer import server_name, tls_context

from tests.agent_samples import Authority, FakeClock, eventually

CLUSTER = "c-1"
WORD = Told(node="b", role=Role.UP, phase=Phase.READY, serves=True, sentence="It runs.")


class Bench:
    """Node b answers; whoever is asked for by name has a certificate of the same authority."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.word = WORD
        self.server = NeighbourServer(
            lambda: self.word,
            names=[server_name("a", CLUSTER)],
            context=self.tls("b", server=True),
            host="127.0.0.1",
            port=0,
        )
        self.port = 0

    def tls(self, node: str, *, server: bool = False) -> ssl.SSLContext:
        certificate, key = self.authority.issue(f"web-{node}", names=(x509.DNSName(server_name(node, CLUSTER)),))
        return tls_context(server=server, certificate=certificate, key=key, ca=self.authority.path)

    def neighbours(
        self, clock: FakeClock, *, name: str = "b", me: str = "a", changed: Callable[[], None] = lambda: None
    ) -> Neighbours:
        tls = self.tls(me)
        peer = Peer.model_validate({"name": name, "addresses": ("127.0.0.1",)})
        return Neighbours(
            [peer],
            cluster_id=CLUSTER,
            context=lambda: tls,
            every_s=1.0,
            suspect_s=5.0,
            changed=changed,
            clock=clock,
            port=self.port,
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Bench]:
        self.port = await self.server.start()
        try:
            yield self
        finally:
            await self.server.stop()


@contextlib.asynccontextmanager
async def asking(neighbours: Neighbours) -> AsyncIterator[Neighbours]:
    task = asyncio.create_task(neighbours.run())
    try:
        yield neighbours
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_node_that_serves_is_known_and_its_silence_is_noticed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with Bench(tmp_path).serving() as bench, asking(bench.neighbours(clock)) as neighbours:
        await eventually(lambda: neighbours.serving() == ("b",), "b serves")
        assert neighbours.known()[0].told == WORD
        await bench.server.stop()
        clock.now += 5.0
        assert neighbours.serving() == ()
        assert neighbours.known()[0].told == WORD, "what it said last is kept for the status"


async def test_a_node_that_leaves_says_so_and_the_change_is_told_once(tmp_path: Path) -> None:
    clock = FakeClock()
    changes: list[str] = []
    async with Bench(tmp_path).serving() as bench:
        subject = bench.neighbours(clock, changed=lambda: changes.append("changed"))
        assert not subject.asked
        async with asking(subject) as neighbours:
            await eventually(lambda: neighbours.serving() == ("b",), "b serves")
            assert (neighbours.asked, changes) == (True, ["changed"])
            bench.word = WORD.model_copy(update={"phase": Phase.TRANSIENT, "serves": False})
            await eventually(lambda: clock.next_wake_s is not None, "it waits for its next turn")
            await clock.advance(1.0)
            await eventually(lambda: neighbours.serving() == (), "b serves no more")
    assert changes == ["changed", "changed"]


async def test_only_nodes_of_the_farm_are_answered(tmp_path: Path) -> None:
    async with Bench(tmp_path).serving() as bench, asking(bench.neighbours(FakeClock(), me="x")) as neighbours:
        await eventually(lambda: neighbours.known()[0].failure == "answered 403", "a stranger is refused")
        # A person's certificate is of the same authority, and none at all is no certificate.
        url = f"https://127.0.0.1:{bench.port}{PATH}"
        person = bench.authority.client(bench.authority.issue("ann", "Admin"))
        person.check_hostname = False
        async with aiohttp.ClientSession() as session, session.get(url, ssl=person) as answer:
            assert answer.status == 403


async def test_the_asked_node_is_known_by_its_certificate(tmp_path: Path) -> None:
    """Node c is expected at an address where b answers."""
    async with Bench(tmp_path).serving() as bench, asking(bench.neighbours(FakeClock(), name="c")) as neighbours:
        await eventually(lambda: "ertificate" in neighbours.known()[0].failure, "the name does not fit")
        assert neighbours.serving() == ()
