"""The endpoints around keys and certificates, as data (see `shared.api.endpoints`)."""

from __future__ import annotations

from typing import Final

from mirror_agent.contract import RenewRequest, RenewResponse

from shared.api import key_care, nodes, rotation
from shared.api.endpoint import Endpoint, Guard

KEY_ENDPOINTS: Final = (
    Endpoint(
        "authority_get",
        "GET",
        "clusters/{name}/authority",
        Guard.MONITOR,
        rotation.get_authority,
        "Read the certificate authorities of a cluster, and how far a rotation is.",
        {200: rotation.ClusterAuthorityView},
    ),
    Endpoint(
        "keys_rewrap",
        "POST",
        "keys:rewrap",
        Guard.ADMIN,
        key_care.rewrap_keys,
        "Wrap the authorities' keys with the present wrapping key, and say how many still need the previous one.",
        {200: key_care.RewrapView},
    ),
    Endpoint(
        "node_certificate",
        "POST",
        "nodes/certificate",
        Guard.NODE,
        nodes.renew_certificate,
        "Exchange a certificate request for a new certificate of the node that asks.",
        {200: RenewResponse},
        body=RenewRequest,
    ),
)
