"""Enrolment against a real HTTPS server that checks the certificate request as the control plane does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent import cli
from mirror_agent.contract import EnrolRequest, EnrolResponse
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.enrolment import Bootstrap, Enrolled, EnrolmentFailed, enrol, load_bootstrap
from mirror_agent.net.https import require_https
from mirror_agent.net.identity import (
    BadEnrolment,
    NotEnrolled,
    load_agent_file,
    load_credential,
    store_configuration,
)
from mirror_agent.paths import Paths

from tests.agent_samples import Authority, FakeClock, Recorded, configuration, eventually
from tests.portable import assert_private

TOKEN = "mp_enrol_VERYSECRETTOKEN"
CREDENTIAL = "mp_node_VERYSECRETCREDENTIAL"


@dataclass
class ControlPlane:
    """Answers the queued statuses first; then it checks the request and signs the key."""

    site: Authority
    cluster: Authority
    url: str = ""
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[EnrolRequest] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    issuer: Authority | None = None
    other_key: bool = False

    async def enrol(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": {"code": "Unauthorized", "message": "bad token"}}, status=401)
        asked = EnrolRequest.model_validate_json(await request.read())
        self.requests.append(asked)
        signing = x509.load_pem_x509_csr(asked.csr_pem.encode())
        assert signing.is_signature_valid
        key = signing.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        self.keys.append(key.public_bytes(serialization.Encoding.DER, form))
        if self.failures:
            status, headers = self.failures.pop(0)
            return web.json_response({"error": {"code": "X", "message": "no"}}, status=status, headers=headers)
        if self.other_key:
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        answer = EnrolResponse(
            certificate_pem=(self.issuer or self.cluster).sign(key, "demo-a"),
            ca_pem=self.cluster.pem,
            node_credential=CREDENTIAL,
            configuration=configuration(version=3),
        )
        return web.Response(text=answer.model_dump_json(by_alias=True), content_type="application/json")


@pytest_asyncio.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    made = ControlPlane(Authority(tmp_path / "web", "web CA"), Authority(tmp_path / "cluster"))
    application = web.Application()
    application.router.add_post("/api/nodes/enrol", made.enrol)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=made.site.server()).start()
    made.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@dataclass
class Node:
    paths: Paths
    plane: ControlPlane
    clock: FakeClock = field(default_factory=FakeClock)
    log: Recorded = field(default_factory=Recorded)

    async def enrol(self, token: str = TOKEN, deadline_s: float = 600.0) -> Enrolled | EnrolmentFailed:
        return await enrol(
            Bootstrap(control_plane_url=self.plane.url, enrolment_token=token),
            log=self.log,
            paths=self.paths,
            clock=self.clock,
            back_off=BackOff(lambda: 0.0),
            deadline_s=deadline_s,
            tls=self.plane.site.client(),
        )


@pytest.fixture
def node(plane: ControlPlane, tmp_path: Path) -> Node:
    return Node(Paths(tmp_path / "root"), plane)


async def test_enrolment_writes_everything_and_keeps_secrets_private(node: Node) -> None:
    outcome = await node.enrol()
    assert isinstance(outcome, Enrolled)
    assert not outcome.already
    paths = node.paths
    for secret in (paths.node_key, paths.node_certificate, paths.node_credential, paths.agent_file):
        assert_private(secret)
    assert_private(paths.identity_dir)
    assert load_agent_file(paths).configuration.version == 3
    assert load_agent_file(paths).control_plane_url == node.plane.url
    assert load_credential(paths) == CREDENTIAL
    assert "VERYSECRET" not in str(node.log.events)
    assert "VERYSECRET" not in repr(outcome)
    assert node.plane.requests[0].boot_id
    private = paths.node_key.read_bytes()
    key = serialization.load_pem_private_key(private, None)
    certificate = x509.load_pem_x509_certificate(paths.node_certificate.read_bytes())
    assert certificate.public_key() == key.public_key()


async def test_an_enrolled_node_is_left_alone(node: Node) -> None:
    await node.enrol()
    outcome = await node.enrol()
    assert isinstance(outcome, Enrolled)
    assert outcome.already
    assert len(node.plane.requests) == 1


async def test_a_cut_off_enrolment_goes_on_with_the_same_key(node: Node) -> None:
    node.plane.failures = [(503, {})]
    failed = await node.enrol(deadline_s=0.1)
    assert isinstance(failed, EnrolmentFailed)
    with pytest.raises(NotEnrolled, match="mirrorctl enrol"):
        load_agent_file(node.paths)
    assert isinstance(await node.enrol(), Enrolled)
    assert node.plane.keys[0] == node.plane.keys[1]


async def test_trouble_that_passes_is_waited_for_as_the_other_side_asks(node: Node) -> None:
    node.plane.failures = [(503, {}), (429, {"Retry-After": "7"}), (409, {})]
    enrolling = asyncio.create_task(node.enrol())
    waits = []
    for _ in range(3):
        await eventually(lambda: node.clock.next_wake_s is not None, "waits before the next attempt")
        assert node.clock.next_wake_s is not None
        waits.append(node.clock.next_wake_s)
        await node.clock.advance(node.clock.next_wake_s)
    assert isinstance(await enrolling, Enrolled)
    assert waits == [0.5, 7.0, 2.0]


async def test_a_refused_token_ends_it_at_once_with_a_remedy(node: Node) -> None:
    outcome = await node.enrol(token="mp_wrong_VERYSECRETWRONG")
    assert isinstance(outcome, EnrolmentFailed)
    assert "401" in outcome.reason
    assert "new token" in outcome.reason
    assert "VERYSECRET" not in outcome.reason
    assert not node.paths.agent_file.exists()


async def test_an_answer_for_another_key_is_not_stored(node: Node) -> None:
    node.plane.other_key = True
    with pytest.raises(BadEnrolment, match="another key"):
        await node.enrol()
    assert not node.paths.agent_file.exists()
    assert not node.paths.node_certificate.exists()


async def test_an_answer_of_another_authority_is_not_stored(node: Node, tmp_path: Path) -> None:
    node.plane.issuer = Authority(tmp_path / "stranger", "another CA")
    with pytest.raises(BadEnrolment, match="not issued"):
        await node.enrol()
    assert not node.paths.agent_file.exists()


async def test_a_server_the_system_does_not_trust_gets_no_token(node: Node, plane: ControlPlane) -> None:
    outcome = enrol(
        Bootstrap(control_plane_url=plane.url, enrolment_token=TOKEN),
        log=node.log,
        paths=node.paths,
        clock=node.clock,
        deadline_s=0.1,
    )
    assert isinstance(await outcome, EnrolmentFailed)
    assert plane.requests == []


@pytest.mark.parametrize(
    "url", ["http://plane.example", "https://", "plane.example", "https://user:VERYSECRET@plane.example", "ftp://x"]
)
async def test_only_https_addresses_get_secrets(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https") as refused:
        await enrol(Bootstrap(control_plane_url=url, enrolment_token=TOKEN), log=Recorded(), paths=Paths(tmp_path))
    assert "VERYSECRET" not in str(refused.value)
    assert require_https("https://plane.example/") == "https://plane.example"


async def test_a_newer_configuration_is_kept_for_the_next_start(node: Node) -> None:
    await node.enrol()
    store_configuration(node.paths, configuration(version=4))
    assert load_agent_file(node.paths).configuration.version == 4
    assert load_agent_file(node.paths).control_plane_url == node.plane.url
    assert_private(node.paths.agent_file)


async def test_mirrorctl_enrols(
    node: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(node.plane.site.path))  # the system's trust store, for OpenSSL
    source = tmp_path / "bootstrap.json"
    settings = {"controlPlaneUrl": node.plane.url, "enrolmentToken": TOKEN, "wheelSha256": "00", "cluster": "demo"}
    source.write_text(json.dumps(settings))
    words = ["--root", str(node.paths.root), "enrol", "--from", str(source), "-o", "json"]
    assert await asyncio.to_thread(cli.main, words) == cli.OK
    said = capsys.readouterr()
    assert json.loads(said.out) == {"cluster": "demo", "node": "a", "address": "10.0.0.4", "already": False}
    assert "VERYSECRET" not in said.out + said.err


def test_a_bad_bootstrap_file_is_named_without_its_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "bootstrap.json"
    source.write_text(json.dumps({"enrolmentToken": TOKEN}))
    with pytest.raises(ValueError, match="controlPlaneUrl: Field required") as refused:
        load_bootstrap(source)
    assert "VERYSECRET" not in str(refused.value)
    assert cli.main(["enrol", "--from", str(tmp_path / "missing.json")]) == cli.FAILED
    assert "missing.json is not there" in capsys.readouterr().err
