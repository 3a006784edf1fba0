"""Admitting the other node: the answering side of a conversation whose only common ground is the pair's secret.

Steps: `hello` (this node proves that it holds the secret and which certificate and authority are its own), `join` (the
other one proves the same for its key; it gets certificate and authority), `done` (the secret is forgotten).
Guarantees
- A secret is good for one key. Which one is on disk before anything is answered; the same key may ask again (an answer
  can get lost), another one is refused from then on.
- A proof is good once: it covers a nonce of this process that is taken out of the list by its first use.
- Nothing is told to who does not hold the secret, except this node's proof, which holds for this TLS connection only.
Limits: MAX_OPEN conversations, each for CONVERSATION_S; a further one takes the place of the oldest that did not join,
of the address that has most, so that who asks and asks only drives out himself. An admission ends `VALIDITY` after it
was opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AwareDatetime, Field, ValidationError

from mirror_agent.authority import (
    Authority,
    RequestRefused,
    certificate_sha256,
    issue_node_certificate,
    public_key_sha256,
    verified_public_key,
)
from mirror_agent.contract import Contract, NodeName
from mirror_agent.eventlog import RecordEvent
from mirror_agent.pair.documents import (
    BadDocument,
    Done,
    Hello,
    HelloAnswer,
    Join,
    JoinAnswer,
    PairFacts,
    Secret,
    complaint,
)
from mirror_agent.pair.files import PairFiles, authority_pem
from mirror_agent.pair.proof import Conversation, new_nonce, sha256
from mirror_agent.pair.refusal import Refused

VALIDITY: Final = timedelta(hours=24)
CONVERSATION_S: Final = 60.0
MAX_OPEN: Final = 32


class Admission(Contract):
    """On disk while somebody may come. `keySha256`: the one who did."""

    node: NodeName
    secret: Secret = Field(repr=False)
    ends_at: AwareDatetime
    key_sha256: str | None = None


def open_admission(files: PairFiles, node: NodeName, secret: str, now: datetime) -> Admission:
    """The other node may come with this secret. One that is open for the same secret stays as it is; one that cannot be
    read admits nobody, and is replaced."""
    try:
        found = load_admission(files)
    except BadDocument:
        found = None
    if found is not None and found.secret == secret:
        return found
    made = Admission(node=node, secret=secret, ends_at=now + VALIDITY)
    _store(files, made)
    return made


def load_admission(files: PairFiles) -> Admission | None:
    """Raises BadDocument, OSError."""
    try:
        return Admission.model_validate_json(files.admission.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise BadDocument(
            f"{files.admission}: {complaint(error)}; open another one with: mirrorctl pair admit"
        ) from None


def _store(files: PairFiles, admission: Admission) -> None:
    files.write(files.admission, admission.model_dump_json(by_alias=True).encode() + b"\n")


@dataclass(frozen=True)
class _Open:
    conversation: Conversation
    remote: str
    since_s: float
    joined: bool = False


class Gate:
    """One in the agent's process. `presented` answers the SHA-256 of the certificate this node shows on the wire."""

    def __init__(
        self,
        files: PairFiles,
        facts: PairFacts,
        *,
        presented: Callable[[], str],
        now_s: Callable[[], float],
        wall: Callable[[], datetime],
        log: RecordEvent,
    ) -> None:
        self._files = files
        self._facts = facts
        self._presented = presented
        self._now_s = now_s
        self._wall = wall
        self._log = log
        self._open: dict[str, _Open] = {}

    def hello(self, asked: Hello, remote: str) -> HelloAnswer:
        """`remote`: the address it comes from."""
        admission = self._admission()
        if asked.cluster_id != self._facts.cluster_id or asked.node != admission.node:
            raise Refused(403, "NotExpected", "this is not the pair, or not the node, that is waited for")
        self._forget_old()
        self._make_room()
        nonce = new_nonce()
        conversation = Conversation(asked.cluster_id, asked.node, self._presented(), asked.nonce, nonce)
        self._open[nonce] = _Open(conversation, remote, self._now_s())
        ca_sha256 = certificate_sha256(self._authority().certificate)
        proof = conversation.proof(admission.secret, "hello", ca_sha256)
        return HelloAnswer(nonce=nonce, ca_sha256=ca_sha256, proof=proof)

    def join(self, asked: Join) -> JoinAnswer:
        admission, opened = self._admission(), self._taken(asked.nonce)
        conversation = opened.conversation
        if opened.joined:
            self._open[asked.nonce] = opened  # it may still say that it is done
            raise Refused(409, "NonceUnknown", "this conversation has joined already; say hello again")
        if not conversation.proves(asked.proof, admission.secret, "join", sha256(asked.csr_pem)):
            self._log("pair.join-refused", node=admission.node, reason="the proof is wrong")
            raise Refused(403, "ProofRefused", "the proof does not fit the secret, the request and this connection")
        try:
            key = verified_public_key(asked.csr_pem)
        except RequestRefused as error:
            raise Refused(400, "BadRequest", str(error)) from None
        self._bind(admission, public_key_sha256(key))
        answer = self._answer(key, conversation, admission.secret)
        self._open[asked.nonce] = _Open(conversation, opened.remote, self._now_s(), joined=True)
        self._log("pair.joined", node=admission.node)
        return answer

    def done(self, asked: Done) -> None:
        admission, opened = self._admission(), self._taken(asked.nonce)
        if not opened.joined or not opened.conversation.proves(asked.proof, admission.secret, "done"):
            raise Refused(403, "ProofRefused", "nobody joined in this conversation")
        self._files.admission.unlink(missing_ok=True)
        self._open.clear()
        self._log("pair.complete", node=admission.node)

    def _admission(self) -> Admission:
        found = load_admission(self._files)
        if found is None or self._wall() >= found.ends_at:
            raise Refused(
                410, "NotOpen", "no node is waited for (any more); open an admission here with: mirrorctl pair admit"
            )
        return found

    def _authority(self) -> Authority:
        found = self._files.load_authority()
        if found is None:
            raise Refused(503, "NoAuthority", "this node has no authority; ask the other one")
        return found

    def _taken(self, nonce: str) -> _Open:
        self._forget_old()
        opened = self._open.pop(nonce, None)
        if opened is None:
            raise Refused(409, "NonceUnknown", "say hello first; a proof can be used once, and within a minute")
        return opened

    def _bind(self, admission: Admission, key_sha256: str) -> None:
        """The secret is this key's, on disk, before anything is answered."""
        if admission.key_sha256 is None:
            _store(self._files, admission.model_copy(update={"key_sha256": key_sha256}))
        elif admission.key_sha256 != key_sha256:
            self._log("pair.join-refused", node=admission.node, reason="the secret was used with another key")
            raise Refused(
                409,
                "SecretUsed",
                "this secret was used already, with another key. If the machine was made anew since: mirrorctl pair "
                "admit here. If not, somebody else has it: look at this node's history",
            )

    def _answer(self, key: ec.EllipticCurvePublicKey, conversation: Conversation, secret: str) -> JoinAnswer:
        facts, authority, node = self._facts, self._authority(), self._facts.peer
        certificate_pem = issue_node_certificate(
            authority,
            key,
            cluster=facts.cluster,
            cluster_id=facts.cluster_id,
            node=node,
            addresses=(facts.nodes[node].address,),
            now=self._wall(),
            host_names=facts.host_names(node),
        )
        sealed = conversation.seal(secret, authority_pem(authority))
        ca_pem = authority.certificate_pem
        proof = conversation.proof(secret, "joined", sha256(certificate_pem), sha256(ca_pem), sha256(sealed))
        return JoinAnswer(certificate_pem=certificate_pem, ca_pem=ca_pem, sealed_authority=sealed, proof=proof)

    def _make_room(self) -> None:
        if len(self._open) < MAX_OPEN:
            return
        waiting = {nonce: opened for nonce, opened in self._open.items() if not opened.joined}
        if not waiting:
            raise Refused(429, "TooManyConversations", "try again in a minute")
        of_each = Counter(opened.remote for opened in waiting.values())
        # The first of those that are equal is the oldest: the list is in the order of hellos.
        del self._open[max(waiting, key=lambda nonce: of_each[waiting[nonce].remote])]

    def _forget_old(self) -> None:
        since = self._now_s() - CONVERSATION_S
        self._open = {nonce: opened for nonce, opened in self._open.items() if opened.since_s > since}
