"""Joining a pair: the asking side. This machine convinces the node that holds the authority, and is convinced by it.

The first connection is trusted by nobody; its certificate is what both sides' proofs are about (see `proof`), and every
later request goes to exactly that certificate. A wrong proof, a wrong authority or a certificate for another key ends
the attempt with nothing written.
Guarantee: the key is made here and kept over attempts, so an answer that got lost is asked for again with the same one;
agent.json is written last. Limits: a total deadline; what another attempt cannot change ends it at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from mirror_agent.authority import certificate_sha256, node_dns_name
from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.https import read_bounded
from mirror_agent.net.identity import AgentFile, certificate_request, load_or_make_key
from mirror_agent.net.node_certificate import CertificateRefused, authorities_of, fits, issued
from mirror_agent.pair.documents import (
    ADMISSION_PORT,
    Done,
    Hello,
    HelloAnswer,
    Join,
    JoinAnswer,
    PairFacts,
    PairModule,
    complaint,
)
from mirror_agent.pair.files import PairFiles, authority_of, become_node
from mirror_agent.pair.proof import Conversation, SealBroken, new_nonce, sha256

DEADLINE_S: Final = 600.0
REQUEST_TIMEOUT_S: Final = 20.0
# What the other node says once and for all: the remedy is there.
FINAL: Final = frozenset({"SecretUsed", "BadRequest"})
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class Joined:
    agent: AgentFile


@dataclass(frozen=True)
class NotJoined:
    reason: str


class _TryAgain(Exception):
    """This attempt failed; another one may not."""


class _Final(Exception):
    """No attempt with this secret and this machine can do better."""


async def join(
    files: PairFiles,
    facts: Callable[[], PairFacts],
    module: PairModule,
    *,
    wall: Callable[[], datetime],
    log: RecordEvent,
    clock: Clock = BOOT_CLOCK,
    back_off: BackOff | None = None,
    deadline_s: float = DEADLINE_S,
    port: int = ADMISSION_PORT,
) -> Joined | NotJoined:
    """`facts` are asked for anew for every attempt: an operator may bring another secret meanwhile. Raises OSError of
    the disk, and what `facts` raises."""
    waiting = back_off or BackOff()
    end = clock.now_s() + deadline_s
    while True:
        try:
            return Joined(await _attempt(files, facts(), module, wall(), log, port))
        except _Final as error:
            return NotJoined(str(error))
        except _TryAgain as error:
            delay_s = waiting.delay_s()
            if clock.now_s() + delay_s > end:
                return NotJoined(f"{error}; gave up after {deadline_s:g} s")
            log("pair.waiting", reason=str(error), delay_s=round(delay_s, 1))
            await clock.sleep(delay_s)


async def _attempt(
    files: PairFiles, facts: PairFacts, module: PairModule, now: datetime, log: RecordEvent, port: int
) -> AgentFile:
    address, secret = facts.nodes[facts.peer].address, facts.secret
    presented = await _presented(address, port)
    pinned = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes.fromhex(presented)))
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=pinned, timeout=timeout) as session:
        line = _Line(session, f"https://{address}:{port}/pair/v1")
        nonce = new_nonce()
        hello = Hello(cluster_id=facts.cluster_id, node=facts.node, nonce=nonce)
        greeted = await line.ask("hello", hello, HelloAnswer)
        talk = Conversation(facts.cluster_id, facts.node, presented, nonce, greeted.nonce)
        if not talk.proves(greeted.proof, secret, "hello", greeted.ca_sha256):
            raise _TryAgain(f"{address} does not prove that it holds the pair's secret; nothing was told to it")
        key = load_or_make_key(files.paths)
        csr_pem = certificate_request(key)
        proof = talk.proof(secret, "join", sha256(csr_pem))
        answer = await line.ask("join", Join(nonce=greeted.nonce, csr_pem=csr_pem, proof=proof), JoinAnswer)
        parts = sha256(answer.certificate_pem), sha256(answer.ca_pem), sha256(answer.sealed_authority)
        if not talk.proves(answer.proof, secret, "joined", *parts):
            raise _TryAgain(f"{address} answered with a wrong proof; nothing of it was taken")
        try:
            authority = authority_of(talk.open(secret, answer.sealed_authority))
            found = issued(answer.certificate_pem, authorities_of(answer.ca_pem.encode()), key)
            fits(found, node_dns_name(facts.node, facts.cluster_id), now)
        except (CertificateRefused, SealBroken, ValueError, TypeError) as error:
            raise _TryAgain(f"{address} answered what does not fit: {error}") from None
        if not greeted.ca_sha256 == certificate_sha256(authority.certificate) == found.issuer_sha256:
            raise _TryAgain(f"{address} answered with another authority than it named")
        files.store_authority(authority)
        agent = become_node(files, facts, module, certificate_pem=answer.certificate_pem, ca_pem=answer.ca_pem, key=key)
        log("pair.joined", node=facts.node, authority=greeted.ca_sha256)
        await _say_done(line, Done(nonce=greeted.nonce, proof=talk.proof(secret, "done")), log)
        return agent


async def _say_done(line: _Line, done: Done, log: RecordEvent) -> None:
    """Not heard: the other node forgets the secret when its time is over; it is this machine's key's until then."""
    try:
        await line.tell("done", done)
    except (_TryAgain, _Final) as error:
        log("pair.done-not-heard", reason=str(error))


class _Line:
    """Requests to the one certificate that the session is pinned to."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, word: str, body: BaseModel, answer: type[Answer]) -> Answer:
        try:
            return answer.model_validate_json(await self.tell(word, body))
        except ValidationError as error:
            raise _TryAgain(f"{self._url}/{word}: {complaint(error)}; do both nodes run the same agent?") from None

    async def tell(self, word: str, body: BaseModel) -> bytes:
        address = f"{self._url}/{word}"
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                address, data=body.model_dump_json(by_alias=True), headers=headers, allow_redirects=False
            ) as answer:
                content = await read_bounded(answer)
                if answer.status == 200:
                    return content
        except TimeoutError:
            raise _TryAgain(f"{address} did not answer in {REQUEST_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _TryAgain(f"{address}: {type(error).__name__}") from None
        code, message = _error(content)
        said = f"{address} answered {answer.status} {code}: {message}"
        raise _Final(said) if code in FINAL else _TryAgain(said)


def _error(content: bytes) -> tuple[str, str]:
    try:
        found = _Problem.model_validate_json(content).error
    except ValidationError:
        return "Unknown", content[:200].decode(errors="replace")
    return found.code, found.message


class _Said(BaseModel):
    code: str
    message: str


class _Problem(BaseModel):
    error: _Said


async def _presented(address: str, port: int) -> str:
    """The SHA-256 of the certificate that is shown at this address; whose it is will be proved."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port, ssl=context)
    except (OSError, TimeoutError) as error:
        raise _TryAgain(f"{address}:{port} does not answer yet ({type(error).__name__})") from None
    try:
        certificate: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if not certificate:
        raise _TryAgain(f"{address}:{port} shows no certificate")
    return sha256(certificate)
