"""How a node obtains its identity: a single-use token in its first-boot document, exchanged for a certificate.

Guarantees
- Of two enrolments racing with one token exactly one wins: consumption is a conditional write of the token's row.
- A lost answer does not brick the node: the same node (same public key) asking again within the validity gets the
  same certificate and the same credential. The credential is derived from the wrapping key, so it is never stored.
- A later enrolment of the node ends the credential of the earlier one, and the earlier token cannot bring it back.
Limits: a token is valid for `ENROLMENT_VALIDITY`; whoever reads the VM's custom data before the node enrols could
enrol in its place, which the node notices (its own enrolment is refused) and the audit shows as a silent node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, get_args

from mirror_agent.contract import NodeName

from shared.model.authority import ClusterTrust
from shared.model.principal import ClusterAuthority, Enrolment, NodeCredential, NodePrincipal
from shared.security.authority import (
    Authority,
    issue_node_certificate,
    load_authority,
    new_authority,
    public_key_sha256,
    verified_public_key,
)
from shared.security.secret import derived, hashed, matches, new_secret, new_short_id
from shared.security.wrapping import WrappingKeys, opened, wrap
from shared.store.ports import Changed, Credentials, Exists, Versioned

ENROLMENT_VALIDITY: Final = timedelta(hours=1)
MAX_ATTEMPTS: Final = 5  # lost races against another enrolment of the same node
_ENROLMENT_TOKEN: Final = re.compile(r"mpe_([0-9a-f-]{36})_([0-9a-f]{16})_([0-9a-f]{64})")
_NODE_CREDENTIAL: Final = re.compile(r"mpn_([0-9a-f-]{36})_([a-d])_([0-9a-f]{64})")
_NODES: Final[dict[str, NodeName]] = {node: node for node in get_args(NodeName)}


class EnrolmentRefused(Exception):
    """`code` is the API's error code; the message is for the node's log and reveals nothing about other nodes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Identity:
    """What a node receives."""

    certificate_pem: str
    ca_pem: str
    node_credential: str = field(repr=False)


async def create_enrolment_token(
    credentials: Credentials, *, cluster: str, cluster_id: str, node: NodeName, now: datetime
) -> str:
    """A new token for one node, in clear text; only its hash is stored. Earlier tokens of the node stay valid until
    they expire or are used, so that two racing first boots of one VM do not lock it out."""
    enrolment_id, secret = new_short_id(), new_secret()
    await credentials.create_enrolment(
        Enrolment(
            id=enrolment_id,
            cluster_id=cluster_id,
            cluster=cluster,
            node=node,
            secret_sha256=hashed(secret),
            created_at=now,
            expires_at=now + ENROLMENT_VALIDITY,
        )
    )
    return f"mpe_{cluster_id}_{enrolment_id}_{secret}"


async def ensure_authority(
    credentials: Credentials,
    keys: WrappingKeys,
    *,
    cluster: str,
    cluster_id: str,
    now: datetime,
    trust: ClusterTrust | None,
) -> Authority:
    """The authority that issues for the cluster: the one `trust` names, or the first, made at first use. Of two makers
    one wins and both use its authority."""
    authority_id = "" if trust is None else trust.issuer.id
    stored = await credentials.authority(cluster_id, authority_id)
    if stored is None and not authority_id:
        made = new_authority(cluster, cluster_id, now)
        try:
            await credentials.create_authority(
                ClusterAuthority(
                    cluster_id=cluster_id,
                    certificate_pem=made.certificate_pem,
                    wrapped_key=wrap(keys.current, made.key_bytes, cluster_id),
                    created_at=now,
                )
            )
        except Exists:
            stored = await credentials.authority(cluster_id)
        else:
            return made
    if stored is None:
        raise EnrolmentRefused("ClusterGone", f"cluster {cluster!r} is being deleted")
    return load_authority(stored.certificate_pem, opened(keys, stored.wrapped_key, cluster_id)[0])


async def find_enrolment(credentials: Credentials, token: str, now: datetime) -> Versioned[Enrolment] | None:
    """The enrolment an unexpired token belongs to, used or not; None for any other text."""
    found = _ENROLMENT_TOKEN.fullmatch(token)
    if found is None:
        return None
    cluster_id, enrolment_id, secret = found.groups()
    stored = await credentials.enrolment(cluster_id, enrolment_id)
    if stored is None or not matches(secret, stored.value.secret_sha256) or now >= stored.value.expires_at:
        return None
    return stored


async def enrol(
    credentials: Credentials,
    keys: WrappingKeys,
    *,
    enrolment: Versioned[Enrolment],
    csr_pem: str,
    addresses: Sequence[str],
    now: datetime,
    trust: ClusterTrust | None,
) -> Identity:
    """Consume the token for the key of the request. Raises EnrolmentRefused, or RequestRefused for a bad request."""
    key = verified_public_key(csr_pem)
    fingerprint = public_key_sha256(key)
    token = enrolment.value
    authority = await ensure_authority(
        credentials, keys, cluster=token.cluster, cluster_id=token.cluster_id, now=now, trust=trust
    )
    ca_pem = authority.certificate_pem if trust is None else trust.ca_pem
    current: Versioned[Enrolment] | None = enrolment
    for _ in range(MAX_ATTEMPTS):
        if current is None:
            break
        if current.value.consumed_at is not None:
            return await _same_answer(credentials, keys, current.value, fingerprint, ca_pem)
        consumed = current.value.model_copy(
            update={
                "consumed_at": now,
                "public_key_sha256": fingerprint,
                "certificate_pem": issue_node_certificate(
                    authority,
                    key,
                    cluster=token.cluster,
                    cluster_id=token.cluster_id,
                    node=token.node,
                    addresses=addresses,
                    now=now,
                ),
            }
        )
        try:
            await credentials.replace_enrolment(consumed, current.etag)
        except Changed:
            current = await credentials.enrolment(token.cluster_id, token.id)
            continue
        return await _same_answer(credentials, keys, consumed, fingerprint, ca_pem)
    raise EnrolmentRefused("EnrolmentTokenInvalid", "the enrolment token is gone or contended; ask for a new one")


async def _same_answer(
    credentials: Credentials, keys: WrappingKeys, consumed: Enrolment, fingerprint: str, ca_pem: str
) -> Identity:
    if consumed.public_key_sha256 != fingerprint or consumed.certificate_pem is None or consumed.consumed_at is None:
        raise EnrolmentRefused("EnrolmentTokenUsed", "the enrolment token was already used with another key")
    context = ("node-credential", consumed.cluster_id, consumed.node, consumed.id, fingerprint)
    secrets = [derived(key, *context) for key in keys.all]
    installed = await credentials.credential(consumed.cluster_id, consumed.node)
    # Derived from the previous wrapping key if that was the current one when this enrolment was answered first.
    secret = next((one for one in secrets if installed and matches(one, installed.value.secret_sha256)), secrets[0])
    wanted = NodeCredential(
        cluster_id=consumed.cluster_id,
        cluster=consumed.cluster,
        node=consumed.node,
        enrolment_id=consumed.id,
        secret_sha256=hashed(secret),
        enrolled_at=consumed.consumed_at,
    )
    await _install_credential(credentials, wanted)
    return Identity(
        certificate_pem=consumed.certificate_pem,
        ca_pem=ca_pem,
        node_credential=f"mpn_{consumed.cluster_id}_{consumed.node}_{secret}",
    )


async def _install_credential(credentials: Credentials, wanted: NodeCredential) -> None:
    for _ in range(MAX_ATTEMPTS):
        current = await credentials.credential(wanted.cluster_id, wanted.node)
        if current is not None and current.value.enrolment_id == wanted.enrolment_id:
            return
        if current is not None and current.value.enrolled_at > wanted.enrolled_at:
            raise EnrolmentRefused("EnrolmentSuperseded", "the node was enrolled again with a later token")
        try:
            await credentials.put_credential(wanted, None if current is None else current.etag)
        except (Exists, Changed):
            continue
        return
    raise EnrolmentRefused("EnrolmentContended", "the node's credential is being changed by others; try again")


async def authenticate_node(credentials: Credentials, token: str) -> NodePrincipal | None:
    """The node whose current credential this is; None for any other text."""
    found = _NODE_CREDENTIAL.fullmatch(token)
    if found is None:
        return None
    cluster_id, letter, secret = found.groups()
    node = _NODES[letter]
    stored = await credentials.credential(cluster_id, node)
    if stored is None or not matches(secret, stored.value.secret_sha256):
        return None
    return NodePrincipal(cluster_id=cluster_id, cluster=stored.value.cluster, node=node)
