"""Certificate authorities of a cluster: which one issues, which ones its nodes trust, and a rotation under way.

`ClusterTrust` is part of the cluster's record and the one truth: each step of a rotation is one conditional write of
it. The keys lie in rows of their own (`ClusterAuthority`), made before the record names them and removed after it no
longer does. A cluster without `ClusterTrust` has the one authority it was born with (id "").
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime

from shared.model.document import Document

ROTATE: Final = "rotate-ca"


class RotationStage(StrEnum):
    """In this order; the rule of each step is in `shared.security.rotation`."""

    DISTRIBUTE = "distribute"
    RENEW = "renew"
    OVERLAP = "overlap"
    DROP = "drop"


class TrustedAuthority(Document):
    """`id` names the row of its key; `sha256` is of the certificate's DER form, as nodes report it."""

    id: str
    sha256: str
    certificate_pem: str


class Rotation(Document):
    """`old` and `new` are fingerprints. `overlap_until` is set when all certificates of nodes are renewed; `told`: the
    operation has ended."""

    operation_id: str
    requested_at: AwareDatetime
    requested_by: str
    reason: str = ""
    stage: RotationStage
    stage_since: AwareDatetime
    old: str
    new: str
    overlap_s: int
    overlap_until: AwareDatetime | None = None
    told: bool = False


class ClusterTrust(Document):
    """`issuing` is the fingerprint of the one that signs; it is among `trusted`. `changed_at`: keys made later are not
    garbage, even if this does not name them."""

    issuing: str
    trusted: tuple[TrustedAuthority, ...]
    changed_at: AwareDatetime
    rotation: Rotation | None = None

    @property
    def issuer(self) -> TrustedAuthority:
        return next(authority for authority in self.trusted if authority.sha256 == self.issuing)

    @property
    def ca_pem(self) -> str:
        """All trusted ones, one after another."""
        return "".join(authority.certificate_pem for authority in self.trusted)

    @property
    def fingerprints(self) -> frozenset[str]:
        return frozenset(authority.sha256 for authority in self.trusted)
