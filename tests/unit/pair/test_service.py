"""The pair's port is open while something is offered, and revoked certificates reach both nodes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from mirror_agent.contract import RenewRequest
from mirror_agent.net.identity import certificate_request, load_agent_file, load_or_make_key
from mirror_agent.net.node_certificate import authorities_of, fits, issued
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.pair import orders
from mirror_agent.pair.issuing import own_issuer
from mirror_agent.pair.joining import Joined
from mirror_agent.pair.links import CERTIFICATE_VALIDITY, LINK_VALIDITY, link_token, offer, redeem, revoke
from mirror_agent.pair.membership import pair_membership
from mirror_agent.pair.proof import new_secret
from mirror_agent.pair.revocations import MAX_KNOWN, MOST, Revocations
from mirror_agent.pair.service import PairService

from lab.ports import held_ports
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


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - the fact is in another task's list, or in a log
            await asyncio.sleep(0.01)


def certificate(machine: Machine) -> str:
    """The serial of one that somebody got by a link of this node."""
    authority = machine.files.load_authority()
    assert authority is not None
    secret = new_secret()
    offer(machine.files, ID, secret, name="somebody", role="Admin", now=NOW)
    return redeem(machine.files, authority, "pay", CLUSTER_ID, link_token(CLUSTER_ID, ID, secret), NOW).file.serial


async def test_the_port_opens_with_a_link_and_closes_with_its_end(pair: tuple[Machine, Machine]) -> None:
    first, _ = pair
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as node:
            await until(lambda: len(node.refused) > 1)
            assert not node.service.server.listening, "the other node is in, nobody is waited for"
            offer(first.files, ID, new_secret(), name="somebody", role="Monitor", now=NOW)
            await until(lambda: node.service.server.listening)
            node.wall.later(LINK_VALIDITY)
            await until(lambda: not node.service.server.listening)
    assert "pair.port-opened" in first.log.kinds()


async def test_what_one_node_revokes_both_refuse_also_after_a_restart(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    serial = certificate(first)
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as a, running(second, "b", theirs, mine) as b:
            revoke(first.files, ID, NOW)
            await until(lambda: a.refused[-1:] == [(serial,)] and b.refused[-1:] == [(serial,)])
        async with running(second, "b", theirs, mine) as again:
            await until(lambda: again.refused[-1:] == [(serial,)])
        # Node a's machine is made anew: it has never heard of it, and the other one does not forget.
        for file in (*first.files.links.iterdir(), first.files.revoked):
            file.unlink()
        async with running(first, "a", mine, theirs) as a, running(second, "b", theirs, mine) as b:
            await until(lambda: a.refused[-1:] == [(serial,)] and a.service.server.listening)
            seen = len(b.refused)
            await until(lambda: len(b.refused) > seen + 10)
            assert b.refused[-1] == (serial,)


async def test_both_ports_close_when_what_was_revoked_has_ended(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    certificate(first)
    revoke(first.files, ID, NOW)
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as a, running(second, "b", theirs, mine) as b:
            await until(lambda: a.service.server.listening and b.service.server.listening)
            for node in (a, b):
                node.wall.later(CERTIFICATE_VALIDITY)
            await until(lambda: not a.service.server.listening and not b.service.server.listening)
            assert a.refused[-1] == b.refused[-1] == ()


async def test_files_that_cannot_be_read_are_named_once_and_hold_no_revocation_up(
    pair: tuple[Machine, Machine],
) -> None:
    first, _ = pair
    serial = certificate(first)
    revoke(first.files, ID, NOW)
    (first.files.links / "00000000000000bb.json").write_text("{")
    first.files.admission.write_text("{")
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as node:
            await until(lambda: len(node.refused) > 3)
            assert node.refused[-1] == (serial,)
    assert first.log.kinds().count("pair.file-unreadable") == 1
    (failed,) = (fields for kind, fields in first.log.events if kind == "pair.service-failed")
    assert failed["part"] == "admission"
    assert "admission.json" in str(failed["reason"])


async def test_another_node_that_is_silent_delays_nothing(pair: tuple[Machine, Machine]) -> None:
    """It takes the connection and says nothing, for PEER_TIMEOUT_S and longer."""
    first, _ = pair
    serial = certificate(first)
    with held_ports("127.0.0.1", 2) as (mine, _), socket.create_server(("127.0.0.1", 0)) as silent:
        async with running(first, "a", mine, silent.getsockname()[1]) as node:
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:
                revoke(first.files, ID, NOW)
                await until(lambda: node.refused[-1:] == [(serial,)])
                seen = len(node.refused)
                await until(lambda: len(node.refused) > seen + 100)


async def test_another_node_that_refuses_is_recorded_once(pair: tuple[Machine, Machine]) -> None:
    """It was told that it is node a, so it expects to be asked by node b."""
    first, second = pair
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as a, running(second, "a", theirs, mine):
            certificate(second)
            await until(lambda: "pair.service-failed" in first.log.kinds())
            seen = len(a.refused)
            await until(lambda: len(a.refused) > seen + 10)
    (failed,) = (fields for kind, fields in first.log.events if kind == "pair.service-failed")
    assert "answered 403" in str(failed["reason"])


async def test_what_people_ordered_is_told_once(pair: tuple[Machine, Machine]) -> None:
    first, _ = pair
    orders.note(first.files, "credentials link", NOW, id=ID, name="somebody", role="Admin")
    orders.note(first.files, "credentials revoke", NOW + timedelta(seconds=1), id=ID, name="somebody")
    with held_ports("127.0.0.1", 2) as (mine, theirs):
        async with running(first, "a", mine, theirs) as node:
            await until(lambda: len(node.refused) > 3)
    told = [fields for kind, fields in first.log.events if kind == "pair.ordered"]
    assert [fields["order"] for fields in told] == ["credentials link", "credentials revoke"]
    assert told[0]["by"]
    assert (told[0]["name"], told[0]["role"], told[0]["id"]) == ("somebody", "Admin", ID)
    assert list(first.files.orders.iterdir()) == []


def test_of_too_many_revocations_those_stay_that_end_last(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    known = Revocations(machine.files, machine.log)
    known.learn({f"{number:X}": NOW + timedelta(seconds=number) for number in range(1, MAX_KNOWN + 1)}, NOW)
    known.learn({"ABCDEF": NOW + timedelta(days=1)}, NOW)
    assert len(known.known(NOW)) == MAX_KNOWN
    assert "ABCDEF" in known.known(NOW)
    assert "1" not in known.known(NOW)
    assert machine.log.kinds() == ["pair.revoked-list-full"]
    known.learn({"FEDCBA": NOW + timedelta(days=3650)}, NOW)
    assert known.known(NOW)["FEDCBA"] == NOW + MOST, "no other node holds a port open for ever"


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
