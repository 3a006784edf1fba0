"""A node as the control plane meets it: enrols, reports its certificate, follows orders of trust, renews. It checks
with the agent's own code."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.contract import CertificateReport, EnrolResponse, HeartbeatResponse, NodeName, RenewResponse, Role
from mirror_agent.net.node_certificate import NodeCertificate, authorities_of, fingerprint, fits, issued, joined

from tests.control_plane_app import App, Reply, csr, enrol_body, new_key
from tests.control_plane_samples import heartbeat


@dataclass
class IdentityNode:
    app: App
    name: NodeName
    credential: str
    key: ec.EllipticCurvePrivateKey
    used: NodeCertificate
    cluster_id: str
    failure: str = ""
    sequence: int = 0
    silent: bool = False
    renewals: list[str] = field(default_factory=list)

    @classmethod
    async def enrolled(cls, app: App, name: NodeName) -> IdentityNode:
        key = new_key()
        token = await app.enrolment_token(name)
        reply = await app.send("POST", "nodes/enrol", enrol_body(csr(key)), token=token, version=None)
        answer = EnrolResponse.model_validate_json(reply.content)
        used = issued(answer.certificate_pem, authorities_of(answer.ca_pem.encode()), key)
        return cls(app, name, answer.node_credential, key, used, answer.configuration.cluster_id)

    @property
    def report(self) -> CertificateReport:
        return self.used.report(self.failure)

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset(fingerprint(one) for one in self.used.trusted)

    async def beat(self, *, obey: bool = True) -> Reply:
        self.sequence += 1
        role = Role.PRIM if self.name == "a" else Role.SECOND
        beat = heartbeat(self.name, sequence=self.sequence, role=role, certificate=self.report)
        reply = await self.app.beat(self.credential, beat)
        if reply.status == 200 and obey:
            await self._follow(HeartbeatResponse.model_validate_json(reply.content))
        return reply

    async def renew(self) -> None:
        self.key = new_key()
        body = {"csrPem": csr(self.key), "agentVersion": "0.1.0"}
        reply = await self.app.send("POST", "nodes/certificate", body, token=self.credential, version=None)
        assert reply.status == 200, reply.content
        answer = RenewResponse.model_validate_json(reply.content)
        found = issued(answer.certificate_pem, authorities_of(answer.ca_pem.encode()), self.key)
        fits(found, f"{self.name}.{self.cluster_id}.mirror", self.app.clock())
        trusted = joined(self.used.trusted, found.trusted)
        self.used = NodeCertificate(found.certificate, found.issuer, trusted)
        self.renewals.append(self.used.issuer_sha256)

    async def _follow(self, answer: HeartbeatResponse) -> None:
        order = answer.trust
        if order is None:
            return
        wanted = authorities_of(order.ca_pem.encode())
        self._trust(wanted)
        if self.used.issuer_sha256 != order.issuer_sha256:
            await self.renew()
            self._trust(wanted)

    def _trust(self, wanted: tuple[x509.Certificate, ...]) -> None:
        self.used = NodeCertificate(self.used.certificate, self.used.issuer, joined(wanted, (self.used.issuer,)))


def can_talk(a: IdentityNode, b: IdentityNode) -> bool:
    """Each would accept the other's certificate."""
    return a.used.issuer_sha256 in b.trusted and b.used.issuer_sha256 in a.trusted
