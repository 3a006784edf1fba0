"""The pair's port is open while something is offered, and revoked certificates reach both nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mirror_agent.contract import RenewRequest
from mirror_agent.net.identity import certificate_request, load_agent_file, load_or_make_key
from mirror_agent.net.node_certificate import authorities_of, fits, issued
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.pair.issuing import own_issuer
from mirror_agent.pair.joining import Joined
from mirror_agent.pair.links import LINK_VALIDITY, link_token, offer, redeem, revoke
from mirror_agent.pair.membership import pair_membership
from mirror_agent.pair.proof import new_secret
from mirror_agent.pair.service import ASK_PEER_EVERY, PairService

from tests.unit.pair.two_nodes import CLUSTER_ID, NOW, Machine, Table, Wall, facts, founded, listening

DEADLINE_S = 30.0
ID = "00000000000000aa"


class Turns:
    """Every sleep is short."""

    def now_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.01)


@dataclass
class Running:
    machine: Machine
    wall: Wall
    service: PairService
    port: int
    refused: list[tuple[str, ...]] = field(default_factory=list)


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Machine, Machine]:
    first, second = Machine(tmp_path / "a"), Machine(tmp_path / "b")
    await founded(first, Table())
    async with listening(first) as host:
        assert isinstance(await host.admits(second), Joined)
    return first, second


@contextlib.asynccontextmanager
async def running(machine: Machine, node: str, port: int, peer_port: int) -> AsyncIterator[Running]:
    wall, tls = Wall(), NodeTls(machine.paths)
    nodes = {name: {"address": "127.0.0.1"} for name in ("a", "b")}
    refused: list[tuple[str, ...]] = []
    service = PairService(
        machine.files,
        facts(node, nodes=nodes),
        server_tls=tls.console,
        client_tls=tls.peer_client,
        revoked=refused.append,
        log=machine.log,
        clock=Turns(),
        wall=wall,
        host="127.0.0.1",
        port=port,
        peer_port=peer_port,
    )
    task = asyncio.create_task(service.run())
    try:
        yield Running(machine, wall, service, port, refused)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - the fact is in another task's list, or in a log
            await asyncio.sleep(0.01)


async def test_the_port_opens_with_a_link_and_closes_with_its_end(pair: tuple[Machine, Machine]) -> None:
    first, _ = pair
    async with running(first, "a", free_port(), free_port()) as node:
        await until(lambda: len(node.refused) > 1)
        assert not node.service.server.listening, "the other node is in, nobody is waited for"
        offer(first.files, ID, new_secret(), name="somebody", role="Monitor", now=NOW)
        await until(lambda: node.service.server.listening)
        node.wall.later(LINK_VALIDITY)
        await until(lambda: not node.service.server.listening)
    assert "pair.port-opened" in first.log.kinds()


async def test_what_one_node_revokes_both_refuse_also_after_a_restart(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    authority = first.files.load_authority()
    assert authority is not None
    secret = new_secret()
    offer(first.files, ID, secret, name="somebody", role="Admin", now=NOW)
    made = redeem(first.files, authority, "pay", CLUSTER_ID, link_token(CLUSTER_ID, ID, secret), NOW)
    serial = made.file.serial
    mine, theirs = free_port(), free_port()
    async with running(first, "a", mine, theirs) as a, running(second, "b", theirs, mine) as b:
        revoke(first.files, ID, NOW)
        await until(lambda: a.refused[-1:] == [(serial,)] and b.refused[-1:] == [(serial,)])
    async with running(second, "b", free_port(), free_port()) as again:
        await until(lambda: again.refused[-1:] == [(serial,)])
    # Node a's machine is made anew: it has never heard of it, and the other one does not forget.
    for link in first.files.links.iterdir():
        link.unlink()
    mine, theirs = free_port(), free_port()
    async with running(first, "a", mine, theirs) as a, running(second, "b", theirs, mine) as b:
        await until(lambda: a.refused[-1:] == [(serial,)] and a.service.server.listening)
        seen = len(b.refused)
        await until(lambda: len(b.refused) > seen + 2 * ASK_PEER_EVERY)
        assert b.refused[-1] == (serial,)


async def test_a_node_renews_its_own_certificate(pair: tuple[Machine, Machine]) -> None:
    for machine, node in zip(pair, "ab", strict=True):
        membership = pair_membership(load_agent_file(machine.paths), machine.paths)
        assert membership is not None
        key = load_or_make_key(machine.paths)
        answer = await membership.issue(RenewRequest(csr_pem=certificate_request(key), agent_version="1"))
        fresh = issued(answer.certificate_pem, authorities_of(answer.ca_pem.encode()), key)
        fits(fresh, f"{node}.{CLUSTER_ID}.mirror", fresh.begins)


async def test_without_its_authority_a_node_says_where_there_is_one(pair: tuple[Machine, Machine]) -> None:
    first, _ = pair
    first.files.authority.unlink()
    issue = own_issuer(first.files, facts("a"), Wall())
    csr = certificate_request(load_or_make_key(first.paths))
    with pytest.raises(OSError, match="copy it from the other node"):
        await issue(RenewRequest(csr_pem=csr, agent_version="1"))
