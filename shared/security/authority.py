"""The certificate authority of a cluster; its code is the agent's, because a pair without a control plane needs it too.

What the control plane adds: the authority's key is kept wrapped (`wrapping`, `enrolment`) and replaced (`rotation`).
"""

from __future__ import annotations

from mirror_agent.authority import (
    AUTHORITY_VALIDITY,
    BACKDATED,
    NODE_VALIDITY,
    Authority,
    RequestRefused,
    certificate_sha256,
    issue_node_certificate,
    leaf_extensions,
    load_authority,
    new_authority,
    node_dns_name,
    public_key_sha256,
    verified_public_key,
)

__all__ = [
    "AUTHORITY_VALIDITY",
    "BACKDATED",
    "NODE_VALIDITY",
    "Authority",
    "RequestRefused",
    "certificate_sha256",
    "issue_node_certificate",
    "leaf_extensions",
    "load_authority",
    "new_authority",
    "node_dns_name",
    "public_key_sha256",
    "verified_public_key",
]
