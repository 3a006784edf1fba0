"""A pair's node renews its own certificate: the authority is on both nodes, so neither needs the other for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from mirror_agent.authority import issue_node_certificate, verified_public_key
from mirror_agent.contract import RenewRequest, RenewResponse
from mirror_agent.pair.documents import PairFacts
from mirror_agent.pair.files import PairFiles


def own_issuer(
    files: PairFiles, facts: PairFacts, wall: Callable[[], datetime]
) -> Callable[[RenewRequest], Awaitable[RenewResponse]]:
    """What `CertificateRenewal` asks. Raises OSError when there is no usable authority on this node."""

    async def issue(request: RenewRequest) -> RenewResponse:
        return await asyncio.to_thread(_issue, files, facts, request, wall())

    return issue


def _issue(files: PairFiles, facts: PairFacts, request: RenewRequest, now: datetime) -> RenewResponse:
    try:
        authority = files.load_authority()
    except ValueError as error:
        raise OSError(str(error)) from None
    if authority is None:
        raise OSError(f"{files.authority} is not there; copy it from the other node (docs/security.md)")
    certificate_pem = issue_node_certificate(
        authority,
        verified_public_key(request.csr_pem),
        cluster=facts.cluster,
        cluster_id=facts.cluster_id,
        node=facts.node,
        addresses=(facts.nodes[facts.node].address,),
        now=now,
        host_names=facts.host_names(facts.node),
    )
    return RenewResponse(certificate_pem=certificate_pem, ca_pem=authority.certificate_pem)
