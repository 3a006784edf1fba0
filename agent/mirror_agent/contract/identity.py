"""How a node gets and keeps its certificate, and which authorities it is to trust."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from mirror_agent.contract.basics import (
    CONTRACT_VERSION,
    MAX_SENTENCE_CHARS,
    MAX_TRUSTED_AUTHORITIES,
    Contract,
    Fingerprint,
    moment,
)
from mirror_agent.contract.configuration import Configuration


class EnrolRequest(Contract):
    """POST /api/nodes/enrol, authorised by the single-use enrolment token. The key pair never leaves the node."""

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    csr_pem: Annotated[str, StringConstraints(max_length=8192)]
    agent_version: Annotated[str, StringConstraints(max_length=64)]
    boot_id: Annotated[str, StringConstraints(max_length=64)]


class EnrolResponse(Contract):
    certificate_pem: str
    ca_pem: str
    node_credential: str = Field(repr=False)
    configuration: Configuration


class RenewRequest(Contract):
    """POST /api/nodes/certificate, authorised by the node credential: a certificate for a key pair made on the node."""

    contract_version: Literal["2026-11-01"] = CONTRACT_VERSION
    csr_pem: Annotated[str, StringConstraints(max_length=8192)]
    agent_version: Annotated[str, StringConstraints(max_length=64)]


class RenewResponse(Contract):
    """`caPem` holds every authority the node is to trust, the issuer of `certificatePem` among them."""

    certificate_pem: str
    ca_pem: str


class TrustOrder(Contract):
    """The authorities the nodes of a cluster are to trust now (`caPem`, one PEM after another), and which of them
    issues: a node whose certificate is of another one asks for a new certificate."""

    ca_pem: Annotated[str, StringConstraints(max_length=16384)]
    issuer_sha256: Fingerprint


class CertificateReport(Contract):
    """The certificate a node uses and the authorities it trusts, by the SHA-256 of their DER form. `failure` says why
    the last attempt to renew failed, "" when there was none since."""

    serial: Annotated[str, StringConstraints(max_length=64)]
    expires_utc: Annotated[str, StringConstraints(max_length=40)]
    issuer_sha256: Fingerprint
    trusted_sha256: Annotated[tuple[Fingerprint, ...], Field(max_length=MAX_TRUSTED_AUTHORITIES)]
    failure: Annotated[str, StringConstraints(max_length=MAX_SENTENCE_CHARS)] = ""

    @field_validator("expires_utc")
    @classmethod
    def _a_moment(cls, value: str) -> str:
        return moment(value)
