"""How a node gets its identity: single use, racing, repeated, expired, superseded; and certificates that strict TLS
accepts."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from mirror_agent.contract import EnrolResponse, NodeConfiguration

from shared.security.authority import RequestRefused, new_authority, verified_public_key
from shared.security.wrapping import CannotUnwrap, unwrap, wrap
from shared.store.ports import Unavailable
from tests.control_plane_app import WRAPPING_KEY, App, Reply, csr, enrol_body, new_key
from tests.control_plane_samples import NOW


async def _enrol(app: App, token: str, csr_pem: str) -> Reply:
    return await app.send("POST", "nodes/enrol", enrol_body(csr_pem), token=token, version=None)


async def test_a_node_gets_certificate_credential_and_configuration(app: App) -> None:
    record = await app.provisioned()
    reply = await _enrol(app, await app.enrolment_token("a"), csr(common_name="evil"))
    assert reply.status == 200
    answer = EnrolResponse.model_validate_json(reply.content)
    configuration = answer.configuration
    assert isinstance(configuration, NodeConfiguration)
    assert (configuration.node, configuration.address, configuration.peer.name) == ("a", "10.0.0.4", "b")
    assert configuration.peer.addresses == ("10.0.0.5",)
    assert configuration.cluster_id == record.id
    assert configuration.application == record.spec.application
    assert (configuration.witness.partition_key, configuration.witness.row_key) == (record.id, "record")
    assert "sig=" in configuration.witness.sas

    certificate = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "pay-a"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"a.{record.id}.mirror"], "names are ours, not the request's"
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["10.0.0.4", "198.51.100.4", "198.51.100.9"]
    assert (await app.beat(answer.node_credential)).status == 200


async def test_a_lost_answer_does_not_brick_the_node(app: App) -> None:
    await app.provisioned()
    token, key = await app.enrolment_token("a"), new_key()
    first = await _enrol(app, token, csr(key))
    app.clock.advance(3000)
    again = await _enrol(app, token, csr(key))
    assert again.status == 200
    assert again.body["certificatePem"] == first.body["certificatePem"]
    assert again.body["nodeCredential"] == first.body["nodeCredential"]


async def test_a_used_token_is_worth_nothing_to_another_key(app: App) -> None:
    await app.provisioned()
    token = await app.enrolment_token("a")
    mine = await _enrol(app, token, csr())
    theirs = await _enrol(app, token, csr())
    assert (theirs.status, theirs.code) == (403, "EnrolmentTokenUsed")
    assert (await app.beat(mine.body["nodeCredential"])).status == 200


async def test_of_two_racing_enrolments_exactly_one_wins(app: App) -> None:
    await app.provisioned()
    token = await app.enrolment_token("a")
    replies = await asyncio.gather(*(_enrol(app, token, csr()) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [200, 403, 403, 403]
    [winner] = [reply for reply in replies if reply.status == 200]
    assert (await app.beat(winner.body["nodeCredential"])).status == 200


async def test_both_nodes_racing_make_one_authority(app: App) -> None:
    await app.provisioned()
    tokens = [await app.enrolment_token("a"), await app.enrolment_token("b")]
    replies = await asyncio.gather(*(_enrol(app, token, csr()) for token in tokens))
    assert replies[0].body["caPem"] == replies[1].body["caPem"]


async def test_an_expired_token_is_refused(app: App) -> None:
    await app.provisioned()
    token = await app.enrolment_token("a")
    app.clock.advance(3600)
    reply = await _enrol(app, token, csr())
    assert (reply.status, reply.code) == (401, "EnrolmentTokenInvalid")


async def test_a_later_enrolment_ends_the_earlier_credential_for_good(app: App) -> None:
    await app.provisioned()
    old_token, old_key = await app.enrolment_token("a"), new_key()
    old = (await _enrol(app, old_token, csr(old_key))).body["nodeCredential"]
    app.clock.advance(60)
    new = (await _enrol(app, await app.enrolment_token("a"), csr())).body["nodeCredential"]
    assert (await app.beat(old)).status == 401
    assert (await app.beat(new)).status == 200
    revived = await _enrol(app, old_token, csr(old_key))
    assert (revived.status, revived.code) == (403, "EnrolmentSuperseded")
    assert (await app.beat(new)).status == 200


async def test_a_crash_after_consuming_the_token_is_healed_by_the_nodes_repetition(app: App) -> None:
    await app.provisioned()
    token, key = await app.enrolment_token("a"), new_key()
    await app.enrolled("b")  # so that the next insert into this table is the credential of a
    app.rows.fail("insert", "credentials", Unavailable("storage is away"))
    assert (await _enrol(app, token, csr(key))).status == 503
    reply = await _enrol(app, token, csr(key))
    assert reply.status == 200
    assert (await app.beat(reply.body["nodeCredential"])).status == 200


async def test_a_bad_request_is_refused_and_does_not_use_up_the_token(app: App) -> None:
    await app.provisioned()
    token = await app.enrolment_token("a")
    bad = await _enrol(app, token, "no PEM")
    assert (bad.status, bad.code, bad.target) == (400, "CertificateRequestRefused", "csrPem")
    wrong = await app.send("POST", "nodes/enrol", {**enrol_body(csr()), "contractVersion": "1"}, token=token)
    assert wrong.status == 400
    assert (await _enrol(app, token, csr())).status == 200


async def test_a_node_of_a_deleted_cluster_is_told_so(app: App) -> None:
    await app.provisioned()
    token, credential = await app.enrolment_token("a"), await app.enrolled("b")
    found = await app.plane.store.clusters.get("pay")
    assert found is not None
    await app.plane.store.clusters.delete(found.value, found.etag)
    await app.put()  # another cluster of the same name
    assert (
        await app.beat(
            credential,
        )
    ).code in ("ClusterGone", "NodeMismatch")
    reply = await _enrol(app, token, csr())
    assert (reply.status, reply.code) == (410, "ClusterGone")


async def test_the_agents_package_is_served_to_nodes(app: App) -> None:
    await app.provisioned()
    token = await app.enrolment_token("a")
    credential = (await _enrol(app, token, csr())).body["nodeCredential"]
    for presented in (token, credential):
        reply = await app.send("GET", "nodes/agent-wheel", token=presented, version=None)
        assert (reply.status, reply.content) == (200, b"PK wheel")
        assert "mirror_agent-0.1.0-py3-none-any.whl" in reply.headers["content-disposition"]


def test_requests_we_do_not_issue_for() -> None:
    def signed(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(RequestRefused, match="P-256"):
            verified_public_key(signed(key))
    good = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    broken = good[:-4] + bytes(4)
    pem = ssl.DER_cert_to_PEM_cert(broken).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    with pytest.raises(RequestRefused):
        verified_public_key(pem)


def test_a_wrapped_key_opens_for_its_cluster_and_key_only() -> None:
    wrapped = wrap(WRAPPING_KEY, b"secret", "cluster-1")
    assert unwrap(WRAPPING_KEY, wrapped, "cluster-1") == b"secret"
    for key, cluster, text in (
        (WRAPPING_KEY, "cluster-2", wrapped),
        (bytes(32), "cluster-1", wrapped),
        (WRAPPING_KEY, "cluster-1", wrapped[:-8] + "AAAAAAA="),
        (WRAPPING_KEY, "cluster-1", "v0:" + wrapped[3:]),
        (WRAPPING_KEY, "cluster-1", "v1:%%%"),
    ):
        with pytest.raises(CannotUnwrap):
            unwrap(key, text, cluster)
    assert new_authority("pay", "id", NOW).certificate_pem not in wrapped


async def test_the_certificates_pass_strict_verification_both_ways(app: App, tmp_path: Path) -> None:
    """A handshake in memory with VERIFY_X509_STRICT, checking the name of the peer as the nodes do. The clock of the
    verification is the machine's own, so the plane's is set to it."""
    app.clock.now = datetime.now(UTC)
    record = await app.provisioned()
    contexts: dict[str, tuple[Path, Path]] = {}
    ca = ""
    for node in ("a", "b"):
        key = new_key()
        reply = await _enrol(app, await app.enrolment_token(node), csr(key))
        ca = reply.body["caPem"]
        certificate, private = tmp_path / f"{node}.pem", tmp_path / f"{node}.key"
        certificate.write_text(reply.body["certificatePem"])
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        contexts[node] = (certificate, private)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ca)
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=ca)
    for context, node in ((server, "a"), (client, "b")):
        context.load_cert_chain(*contexts[node])
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    subject = _handshake(server, client, f"a.{record.id}.mirror")
    assert ("commonName", "pay-b") in subject
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, client, f"b.{record.id}.mirror")
    _handshake(server, client, "10.0.0.4")


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> list[object]:
    """Returns the subject the server saw of its client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    peer = far.getpeercert()
    assert peer is not None
    return [pair for entry in peer["subject"] for pair in entry]
