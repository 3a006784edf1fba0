"""The first node of a pair: it makes the cluster's authority, the safety record if there is none, and its own identity.

Guarantee: may be cut off at any moment and run again; the same authority goes on. The safety record is inserted and
never written over: a record that another founding made, or that nodes have changed since, stays, and a machine that
comes with a fresh disk to a pair that exists founds nothing (it has to be admitted by the other node instead).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mirror_agent.authority import Authority, certificate_sha256, issue_node_certificate, new_authority
from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Epoch, Node, Record
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.identity import AgentFile, load_or_make_key
from mirror_agent.net.witness_founding import Founding
from mirror_agent.pair.admission import open_admission
from mirror_agent.pair.documents import FIRST_LINK_ID, PairFacts, PairModule, configuration
from mirror_agent.pair.files import PairFiles, become_node
from mirror_agent.pair.links import offer_first

RULE: Final = "founded"
FIRST_NAME: Final = "first administrator"
FoundRecord = Callable[[WitnessAccess, Record], Awaitable[Founding]]


@dataclass(frozen=True)
class Founded:
    agent: AgentFile


@dataclass(frozen=True)
class NotFounded:
    """`again`: another attempt may be better."""

    reason: str
    again: bool


async def found(
    files: PairFiles, facts: PairFacts, module: PairModule, *, insert: FoundRecord, now: datetime, log: RecordEvent
) -> Founded | NotFounded:
    """Raises OSError of the disk."""
    before = files.load_authority()
    was_node = before is not None and files.facts.exists()
    authority = before or _new_authority(files, facts, now)
    nonce = f"{RULE}-{certificate_sha256(authority.certificate)[:32]}"
    first = Record(Epoch(0), Node(""), frozenset({Node(facts.node)}), nonce, RULE)
    outcome = await insert(configuration(facts, module).witness, first)
    match outcome:
        case Founding(unknown=str(reason)):
            return NotFounded(f"the witness record cannot be made: {reason}", again=True)
        case Founding(existing=Record(nonce=other)) if other != nonce and not was_node:
            # Not ours, and this machine was no node of the pair either: its authority is nobody's.
            files.authority.unlink()
            return NotFounded(
                "this pair was founded before: its safety record is there and this machine has no authority. It is "
                f"admitted by the other node: run 'mirrorctl pair admit' on node {facts.peer}, and give the secret it "
                "prints to 'mirrorctl pair secret' here",
                again=False,
            )
        case _:
            log("pair.founded", record="made" if outcome.existing is None else "was there")
    open_admission(files, facts.peer, facts.secret, now)
    if facts.link_secret is not None:
        offer_first(files, FIRST_LINK_ID, facts.link_secret, name=FIRST_NAME, now=now)
    key = load_or_make_key(files.paths)
    certificate_pem = issue_node_certificate(
        authority,
        key.public_key(),
        cluster=facts.cluster,
        cluster_id=facts.cluster_id,
        node=facts.node,
        addresses=(facts.nodes[facts.node].address,),
        now=now,
        host_names=facts.host_names(facts.node),
    )
    return Founded(
        become_node(files, facts, module, certificate_pem=certificate_pem, ca_pem=authority.certificate_pem, key=key)
    )


def _new_authority(files: PairFiles, facts: PairFacts, now: datetime) -> Authority:
    made = new_authority(facts.cluster, facts.cluster_id, now)
    files.store_authority(made)
    return made
