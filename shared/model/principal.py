"""Who calls and what the caller may do: Admin may everything Control may, Control everything Monitor may."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mirror_agent.contract import NodeName
from pydantic import AwareDatetime

from shared.model.document import Document


class AccessRole(StrEnum):
    ADMIN = "Admin"
    CONTROL = "Control"
    MONITOR = "Monitor"


_INCLUDES: Final = {
    AccessRole.ADMIN: frozenset(AccessRole),
    AccessRole.CONTROL: frozenset({AccessRole.CONTROL, AccessRole.MONITOR}),
    AccessRole.MONITOR: frozenset({AccessRole.MONITOR}),
}


@dataclass(frozen=True)
class Principal:
    """An authenticated caller of the management API. `kind` is token, bootstrap or entra."""

    id: str
    name: str
    kind: str
    roles: frozenset[AccessRole]

    def may(self, needed: AccessRole) -> bool:
        return any(needed in _INCLUDES[role] for role in self.roles)


@dataclass(frozen=True)
class NodePrincipal:
    """A node that proved itself by its credential or by an enrolment token."""

    cluster_id: str
    cluster: str
    node: NodeName


class ApiToken(Document):
    """A stored API token: never the secret, only its hash."""

    id: str
    name: str
    role: AccessRole
    secret_sha256: str
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None = None


class ClusterAuthority(Document):
    """A certificate authority of a cluster; the key is wrapped by a key of the application settings. `id` is "" for the
    one the cluster was born with, the fingerprint for those made by a rotation."""

    cluster_id: str
    id: str = ""
    certificate_pem: str
    wrapped_key: str
    created_at: AwareDatetime


class Enrolment(Document):
    """A single-use token with which one node of one cluster obtains its identity. Consumed by a conditional write.

    The certificate issued is kept, so that the same node (same public key) asking again, because the answer was
    lost, gets the same answer until `expires_at`.
    """

    id: str
    cluster_id: str
    cluster: str
    node: NodeName
    secret_sha256: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    consumed_at: AwareDatetime | None = None
    public_key_sha256: str | None = None
    certificate_pem: str | None = None


class NodeCredential(Document):
    """The hashed credential of a node; a later enrolment of the same node replaces it."""

    cluster_id: str
    cluster: str
    node: NodeName
    enrolment_id: str
    secret_sha256: str
    enrolled_at: AwareDatetime
