"""A person's access to the nodes of a cluster: offered by a one-time link, downloaded once, revocable until it ends."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime

from shared.model.document import Document
from shared.model.principal import AccessRole


class CredentialState(StrEnum):
    OFFERED = "offered"
    DOWNLOADED = "downloaded"
    REVOKED = "revoked"
    EXPIRED = "expired"


class ClientCredential(Document):
    """`serial` (hex, as TLS libraries print it) is known once the certificate was made, at the download. Neither the
    private key nor the password of the file is ever stored."""

    id: str
    cluster_id: str
    cluster: str
    name: str
    role: AccessRole
    secret_sha256: str
    created_by: str
    created_at: AwareDatetime
    link_expires_at: AwareDatetime
    valid_days: int
    used_at: AwareDatetime | None = None
    serial: str | None = None
    certificate_expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str | None = None

    def state(self, now: AwareDatetime) -> CredentialState:
        if self.revoked_at is not None:
            return CredentialState.REVOKED
        if self.used_at is None:
            return CredentialState.OFFERED if now < self.link_expires_at else CredentialState.EXPIRED
        ends = self.certificate_expires_at
        return CredentialState.EXPIRED if ends is not None and now >= ends else CredentialState.DOWNLOADED

    def is_over(self, now: AwareDatetime) -> bool:
        """Nothing can be opened by it and nobody has to refuse it any more."""
        if self.serial is None:
            return self.revoked_at is not None or now >= self.link_expires_at
        return self.certificate_expires_at is not None and now >= self.certificate_expires_at
