"""The second node: what a secret is good for, how often, for whom, and what a man in the middle gets."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from mirror_agent.authority import public_key_sha256
from mirror_agent.contract import NodeConfiguration
from mirror_agent.net.identity import certificate_request, load_agent_file, load_or_make_key
from mirror_agent.net.node_certificate import fingerprint, load_node_certificate
from mirror_agent.pair.admission import CONVERSATION_S, MAX_OPEN, VALIDITY, load_admission, open_admission
from mirror_agent.pair.documents import Done, Hello, Join
from mirror_agent.pair.joining import Joined, NotJoined, join
from mirror_agent.pair.proof import Conversation, SealBroken, new_nonce, new_secret, sha256
from mirror_agent.pair.refusal import Refused

from lab.serve import serve_app
from tests.lab.arm.certificates import make_tls
from tests.unit.pair.two_nodes import (
    CLUSTER_ID,
    MODULE,
    SECRET,
    Host,
    Machine,
    Table,
    Ticks,
    facts,
    founded,
    listening,
)

# In the order of writing, on the node that joins.
STEPS: Final = (
    "var/lib/mirrorplane/identity/node.key",
    "var/lib/mirrorplane/pair/authority.pem",
    "var/lib/mirrorplane/pair/facts.json",
    "var/lib/mirrorplane/identity/ca.pem",
    "var/lib/mirrorplane/identity/node.pem",
    "etc/mirrorplane/agent.json",
)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    first = Machine(tmp_path / "a")
    await founded(first, Table())
    async with listening(first) as listener:
        yield listener


@pytest.fixture
def second(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "b")


async def test_it_gets_a_certificate_the_authority_and_nothing_is_left_open(host: Host, second: Machine) -> None:
    assert isinstance(await host.admits(second), Joined)
    agent = load_agent_file(second.paths)
    assert (agent.control_plane_url, agent.configuration.node) == ("", "b")
    assert isinstance(agent.configuration, NodeConfiguration)
    assert agent.configuration.peer.addresses == ("127.0.0.1",)
    mine, theirs = (load_node_certificate(machine.paths) for machine in (second, host.machine))
    assert mine.issuer_sha256 == theirs.issuer_sha256
    assert second.files.authority.read_bytes() == host.machine.files.authority.read_bytes()
    assert second.written() == sorted(STEPS)
    for name in STEPS:
        assert (second.root / name).stat().st_mode & 0o077 == 0, name
    assert load_admission(host.machine.files) is None, "the secret is forgotten when the other node has everything"
    assert [kind for kind in host.machine.log.kinds() if kind.startswith("pair.")] == [
        "pair.founded",
        "pair.joined",
        "pair.complete",
    ]


async def test_the_secret_is_good_once(host: Host, second: Machine, tmp_path: Path) -> None:
    assert isinstance(await host.admits(second), Joined)
    third = Machine(tmp_path / "c")
    outcome = await host.admits(third)
    assert isinstance(outcome, NotJoined)
    assert "NotOpen" in outcome.reason
    assert STEPS[-1] not in third.written()


async def test_nor_can_another_key_have_it_while_the_first_one_is_not_done(
    host: Host, second: Machine, tmp_path: Path
) -> None:
    """The first one was heard and did not say that it is done: its power may have been cut."""
    await host.admits(second)
    open_admission(host.machine.files, "b", SECRET, host.wall())
    admission = load_admission(host.machine.files)
    assert admission is not None
    key = load_or_make_key(second.paths)
    bound = admission.model_copy(update={"key_sha256": public_key_sha256(key.public_key())})
    host.machine.files.write(host.machine.files.admission, bound.model_dump_json(by_alias=True).encode())
    thief = Machine(tmp_path / "thief")
    outcome = await host.admits(thief)
    assert isinstance(outcome, NotJoined)
    assert "SecretUsed" in outcome.reason
    assert "mirrorctl pair admit" in outcome.reason
    assert "pair.join-refused" in host.machine.log.kinds()
    second.paths.agent_file.unlink()
    assert isinstance(await host.admits(second), Joined), "the same key may ask again"


@pytest.mark.parametrize("written", range(1, len(STEPS)))
async def test_a_power_cut_at_any_step_of_it_is_gone_on_from(
    host: Host, second: Machine, tmp_path: Path, written: int
) -> None:
    await host.admits(second)
    cut = second.with_only(tmp_path / "cut", list(STEPS[:written]))
    bound = {"node": "b", "secret": SECRET, "endsAt": (host.wall() + VALIDITY).isoformat()}
    key = public_key_sha256(load_or_make_key(cut.paths).public_key())
    host.machine.files.write(host.machine.files.admission, json.dumps(bound | {"keySha256": key}).encode())
    assert isinstance(await host.admits(cut), Joined)
    assert load_agent_file(cut.paths).configuration.node == "b"
    assert (cut.root / STEPS[0]).read_bytes() == (second.root / STEPS[0]).read_bytes()


async def test_a_wrong_secret_tells_neither_side_anything(host: Host, second: Machine) -> None:
    outcome = await host.admits(second, secret=new_secret())
    assert isinstance(outcome, NotJoined)
    assert "does not prove that it holds the pair's secret" in outcome.reason
    assert second.written() == []
    assert host.machine.log.kinds().count("pair.joined") == 0


async def test_another_secret_that_an_operator_brings_meanwhile_is_used(host: Host, second: Machine) -> None:
    secrets = iter([new_secret(), new_secret(), SECRET])
    outcome = await join(
        second.files,
        lambda: facts("b", secret=next(secrets)),
        MODULE,
        wall=host.wall,
        log=second.log,
        clock=Ticks(),
        port=host.port,
    )
    assert isinstance(outcome, Joined)
    assert second.log.kinds().count("pair.waiting") == 2


async def test_who_does_not_hold_the_secret_gets_nothing_by_asking_on(host: Host) -> None:
    talk = begun(host)
    guess = new_secret()
    csr = certificate_request(load_or_make_key(Machine(host.machine.root / "x").paths))
    with pytest.raises(Refused) as refused:
        host.gate.join(Join(nonce=talk.answerer_nonce, csr_pem=csr, proof=talk.proof(guess, "join", sha256(csr))))
    assert (refused.value.status, refused.value.code) == (403, "ProofRefused")
    admission = load_admission(host.machine.files)
    assert admission is not None
    assert admission.key_sha256 is None


async def test_a_proof_is_good_once(host: Host, tmp_path: Path) -> None:
    talk = begun(host)
    csr = certificate_request(load_or_make_key(Machine(tmp_path / "b").paths))
    said = Join(nonce=talk.answerer_nonce, csr_pem=csr, proof=talk.proof(SECRET, "join", sha256(csr)))
    host.gate.join(said)
    with pytest.raises(Refused) as replayed:
        host.gate.join(said)
    assert replayed.value.code == "NonceUnknown"
    host.gate.done(Done(nonce=talk.answerer_nonce, proof=talk.proof(SECRET, "done")))
    open_admission(host.machine.files, "b", SECRET, host.wall())
    with pytest.raises(Refused) as refused:
        host.gate.join(said)
    assert refused.value.code == "NonceUnknown"


async def test_a_proof_of_one_step_is_none_of_another(host: Host, tmp_path: Path) -> None:
    talk = begun(host)
    csr = certificate_request(load_or_make_key(Machine(tmp_path / "b").paths))
    with pytest.raises(Refused):
        host.gate.join(Join(nonce=talk.answerer_nonce, csr_pem=csr, proof=talk.proof(SECRET, "done")))
    talk = begun(host)
    with pytest.raises(Refused):
        host.gate.done(Done(nonce=talk.answerer_nonce, proof=talk.proof(SECRET, "done")))
    assert load_admission(host.machine.files) is not None, "nobody joined: the secret stays"


async def test_a_conversation_ends_after_a_minute(host: Host, tmp_path: Path) -> None:
    talk = begun(host)
    host.ticks.seconds += CONVERSATION_S
    csr = certificate_request(load_or_make_key(Machine(tmp_path / "b").paths))
    with pytest.raises(Refused) as refused:
        host.gate.join(Join(nonce=talk.answerer_nonce, csr_pem=csr, proof=talk.proof(SECRET, "join", sha256(csr))))
    assert refused.value.code == "NonceUnknown"


async def test_who_says_hello_on_and_on_drives_out_nobody_but_himself(host: Host, tmp_path: Path) -> None:
    talk = begun(host)
    for _ in range(3 * MAX_OPEN):
        begun(host, remote="203.0.113.66")
    csr = certificate_request(load_or_make_key(Machine(tmp_path / "b").paths))
    host.gate.join(Join(nonce=talk.answerer_nonce, csr_pem=csr, proof=talk.proof(SECRET, "join", sha256(csr))))
    for _ in range(3 * MAX_OPEN):
        begun(host, remote="203.0.113.66")
    host.gate.done(Done(nonce=talk.answerer_nonce, proof=talk.proof(SECRET, "done")))


async def test_an_admission_ends_by_itself(host: Host, second: Machine) -> None:
    host.wall.later(VALIDITY + timedelta(seconds=1))
    outcome = await host.admits(second)
    assert isinstance(outcome, NotJoined)
    assert "NotOpen" in outcome.reason


async def test_a_man_in_the_middle_is_told_nothing_and_can_change_nothing(
    host: Host, second: Machine, tmp_path: Path
) -> None:
    """He presents a certificate of his own and passes every word on."""
    async with in_the_middle(host.port, tmp_path) as (port, heard):
        outcome = await host.admits(second, port=port)
    assert isinstance(outcome, NotJoined)
    assert "does not prove" in outcome.reason
    assert heard == ["/pair/v1/hello"], "nothing but the greeting went through him"
    assert second.written() == []
    admission = load_admission(host.machine.files)
    assert admission is not None
    assert admission.key_sha256 is None


async def test_the_other_name_and_the_other_cluster_are_not_waited_for(host: Host) -> None:
    for changes in ({"node": "a"}, {"cluster_id": "another"}):
        said = {"cluster_id": CLUSTER_ID, "node": "b", "nonce": new_nonce()} | changes
        with pytest.raises(Refused) as refused:
            host.gate.hello(Hello.model_validate(said), "127.0.0.2")
        assert refused.value.code == "NotExpected"


async def test_either_node_can_admit_the_other_one(host: Host, second: Machine, tmp_path: Path) -> None:
    """Node a's machine was lost: node b, which has the authority, admits its successor."""
    await host.admits(second)
    secret = new_secret()
    open_admission(second.files, "a", secret, host.wall())
    successor = Machine(tmp_path / "a-again")
    async with listening(second, "b") as other:
        nodes = {"a": {"address": "127.0.0.1"}, "b": {"address": "127.0.0.1"}}
        known = facts("a", secret=secret, join=True, nodes=nodes)
        outcome = await join(
            successor.files,
            lambda: known,
            MODULE,
            wall=other.wall,
            log=successor.log,
            clock=Ticks(),
            deadline_s=0,
            port=other.port,
        )
    assert isinstance(outcome, Joined)
    assert load_agent_file(successor.paths).configuration.node == "a"
    assert successor.files.authority.read_bytes() == host.machine.files.authority.read_bytes()


def test_a_seal_opens_in_its_own_conversation_only() -> None:
    talk = Conversation(CLUSTER_ID, "b", "c" * 64, new_nonce(), new_nonce())
    sealed = talk.seal(SECRET, b"key")
    assert talk.open(SECRET, sealed) == b"key"
    other = Conversation(CLUSTER_ID, "b", "d" * 64, talk.asker_nonce, talk.answerer_nonce)
    for wrong, secret in ((other, SECRET), (talk, new_secret())):
        with pytest.raises(SealBroken):
            wrong.open(secret, sealed)
    with pytest.raises(SealBroken):
        talk.open(SECRET, sealed[:-8] + "AAAAAAA=")


def begun(host: Host, remote: str = "127.0.0.2") -> Conversation:
    """A conversation of somebody who says hello and knows which certificate is shown."""
    nonce = new_nonce()
    answer = host.gate.hello(Hello(cluster_id=CLUSTER_ID, node="b", nonce=nonce), remote)
    shown = fingerprint(load_node_certificate(host.machine.paths).certificate)
    return Conversation(CLUSTER_ID, "b", shown, nonce, answer.nonce)


@contextlib.asynccontextmanager
async def in_the_middle(target: int, directory: Path) -> AsyncIterator[tuple[int, list[str]]]:
    heard: list[str] = []
    context, _ = make_tls(directory)
    insecure = ssl.create_default_context()
    insecure.check_hostname = False
    insecure.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=insecure)) as session:

        async def pass_on(request: web.Request) -> web.Response:
            heard.append(request.path)
            body: Any = await request.read()
            async with session.post(f"https://127.0.0.1:{target}{request.path}", data=body) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

        application = web.Application()
        application.router.add_post("/{path:.*}", pass_on)
        runner, url = await serve_app(application, "127.0.0.1", 0, context)
        try:
            yield int(url.rpartition(":")[2]), heard
        finally:
            await runner.cleanup()
