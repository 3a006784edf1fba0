"""A node's certificate renews itself: against a real HTTPS server, on real files, with an injected wall clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.contract import RenewRequest, RenewResponse, TrustOrder
from mirror_agent.net.node_certificate import (
    CertificateRefused,
    authorities_of,
    fingerprint,
    load_node_certificate,
    settle_files,
    store_pair,
)
from mirror_agent.net.renewal import EXPIRES_SOON, CertificateRenewal, control_plane_issuer, renewal_moment
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.paths import Paths, private_directory, replace_file

from shared.security.authority import Authority, issue_node_certificate, new_authority, verified_public_key
from tests.agent_samples import Authority as Site
from tests.agent_samples import FakeClock, Recorded, eventually
from tests.portable import assert_private

CREDENTIAL = "mpn_c-1_a_VERYSECRETCREDENTIAL"
NAME = "a.c-1.mirror"
NOW = datetime.now(UTC).replace(microsecond=0)
LIFE = timedelta(days=730)


def certificate(authority: Authority, key: ec.EllipticCurvePublicKey, now: datetime, cluster_id: str = "c-1") -> str:
    return issue_node_certificate(
        authority, key, cluster="demo", cluster_id=cluster_id, node="a", addresses=("127.0.0.1",), now=now
    )


@dataclass
class ControlPlane:
    """Signs requests of the node credential; `answers` are tried first."""

    site: Site
    issuer: Authority
    trusted: list[Authority]
    now: Callable[[], datetime]
    url: str = ""
    asked: int = 0
    answers: list[Callable[[ec.EllipticCurvePublicKey], web.Response]] = field(default_factory=list)

    async def renew(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {CREDENTIAL}"
        self.asked += 1
        key = verified_public_key(RenewRequest.model_validate_json(await request.read()).csr_pem)
        if self.answers:
            return self.answers.pop(0)(key)
        return answer(certificate(self.issuer, key, self.now()), *self.trusted)

    def order(self) -> TrustOrder:
        return TrustOrder(ca_pem=bundle(*self.trusted), issuer_sha256=fingerprint(self.issuer.certificate))


def bundle(*authorities: Authority) -> str:
    return "".join(authority.certificate_pem for authority in authorities)


def answer(certificate_pem: str, *authorities: Authority) -> web.Response:
    body = RenewResponse(certificate_pem=certificate_pem, ca_pem=bundle(*authorities))
    return web.Response(text=body.model_dump_json(by_alias=True), content_type="application/json")


@dataclass
class Node:
    plane: ControlPlane
    paths: Paths
    wall: datetime = NOW
    clock: FakeClock = field(default_factory=FakeClock)
    log: Recorded = field(default_factory=Recorded)
    changes: int = 0
    jitter: float = 0.0
    renewal: CertificateRenewal = field(init=False)

    def __post_init__(self) -> None:
        self.renewal = CertificateRenewal(
            issue=control_plane_issuer(self.plane.url, CREDENTIAL, self.plane.site.client()),
            dns_name=NAME,
            changed=self._changed,
            log=self.log,
            paths=self.paths,
            clock=self.clock,
            wall=lambda: self.wall,
            jitter=lambda: self.jitter,
        )

    def _changed(self) -> None:
        self.changes += 1

    def files(self) -> tuple[bytes, bytes]:
        return self.paths.node_certificate.read_bytes(), self.paths.ca_certificate.read_bytes()

    def key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.paths.node_certificate.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.renewal.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def look(self) -> None:
        """The next look of the running renewal, once it sleeps."""
        await eventually(lambda: self.clock.next_wake_s is not None, "the renewal sleeps")
        await self.clock.advance(self.clock.next_wake_s or 0.0)


@pytest_asyncio.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    authority = new_authority("demo", "c-1", NOW)
    made = ControlPlane(Site(tmp_path / "web", "web CA"), authority, [authority], lambda: NOW)
    application = web.Application()
    application.router.add_post("/api/nodes/certificate", made.renew)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=made.site.server()).start()
    made.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def node(plane: ControlPlane, tmp_path: Path) -> Node:
    made = Node(plane, enrolled(tmp_path / "root", plane.issuer))
    plane.now = lambda: made.wall
    return made


def enrolled(root: Path, authority: Authority, now: datetime = NOW) -> Paths:
    paths = Paths(root)
    private_directory(paths.identity_dir)
    key = ec.generate_private_key(ec.SECP256R1())
    replace_file(paths.ca_certificate, authority.certificate_pem.encode(), 0o600)
    store_pair(paths, certificate(authority, key.public_key(), now), key)
    return paths


def test_the_moment_lies_in_the_last_third_and_is_spread() -> None:
    begin, end = NOW, NOW + timedelta(days=90)
    assert renewal_moment(begin, end, 0.0) == begin + timedelta(days=60)
    assert renewal_moment(begin, end, 0.999) < begin + timedelta(days=70)


async def test_at_two_thirds_of_its_life_and_not_before(node: Node) -> None:
    first, key = node.files(), node.key()
    async with node.running():
        node.wall = NOW + LIFE * 0.66
        await node.look()
        await eventually(lambda: node.clock.next_wake_s is not None, "it sleeps again")
        assert (node.plane.asked, node.files()) == (0, first)
        node.wall = NOW + LIFE * 0.67
        await node.look()
        await eventually(lambda: node.changes == 1, "renewed")
    assert node.key().private_numbers() != key.private_numbers()
    present = load_node_certificate(node.paths)
    assert present.ends == node.wall + LIFE
    assert present.certificate.public_key() == node.key().public_key()
    assert_private(node.paths.node_certificate)
    assert node.renewal.report.serial == f"{present.certificate.serial_number:X}"
    assert ("certificate.renewed", 730.0) in [(kind, more.get("expires_in_days")) for kind, more in node.log.events]


async def test_a_failure_keeps_the_old_one_says_why_and_is_tried_again_later_and_later(node: Node) -> None:
    first = node.files()
    node.plane.answers = [lambda key: web.Response(status=503, text="busy") for _ in range(3)]
    node.wall, pauses = NOW + LIFE * 0.9, []
    async with node.running():
        for _ in range(3):
            await eventually(lambda: node.clock.next_wake_s is not None, "asked, and waiting")
            assert "503" in node.renewal.report.failure
            assert node.files() == first
            pauses.append(node.clock.next_wake_s or 0.0)
            await node.clock.advance(pauses[-1])
        await eventually(lambda: node.changes == 1, "renewed in the end")
        await eventually(lambda: not node.renewal.report.failure, "and says so")
    assert pauses == [2.5, 5.0, 10.0]
    assert node.log.kinds().count("certificate.renewal-failed") == 1, "one reason is said once"


@pytest.mark.parametrize(
    ("what", "said"),
    [("key", "another key"), ("chain", "not issued by"), ("name", "the peer expects"), ("time", "clock")],
)
async def test_what_does_not_fit_is_not_taken(node: Node, what: str, said: str) -> None:
    other, first = new_authority("demo", "c-1", NOW), node.files()
    node.wall = NOW + LIFE * 0.9

    def wrong(key: ec.EllipticCurvePublicKey) -> web.Response:
        issuer = other if what == "chain" else node.plane.issuer
        if what == "key":
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        when = NOW - LIFE if what == "time" else node.wall
        cluster_id = "c-2" if what == "name" else "c-1"
        return answer(certificate(issuer, key, when, cluster_id), node.plane.issuer)

    node.plane.answers = [wrong]
    async with node.running():
        await eventually(lambda: bool(node.renewal.report.failure), "refused")
    assert said in node.renewal.report.failure
    assert (node.files(), node.changes) == (first, 0)


async def test_the_end_is_announced_once_a_day(node: Node) -> None:
    node.plane.answers = [lambda key: web.Response(status=500) for _ in range(9)]
    node.wall = NOW + LIFE - EXPIRES_SOON + timedelta(hours=1)
    async with node.running():
        for hours in (0, 1, 25):
            await eventually(lambda: node.clock.next_wake_s is not None, "it sleeps")
            node.wall += timedelta(hours=hours)
            await node.clock.advance(node.clock.next_wake_s or 0.0)
        await eventually(lambda: node.log.kinds().count("certificate.expires-soon") == 2, "two days, two events")
    assert [more["expires_in_days"] for kind, more in node.log.events if kind == "certificate.expires-soon"] == [13, 12]


async def test_a_new_authority_is_trusted_first_then_used_then_alone(node: Node) -> None:
    old, new = node.plane.issuer, new_authority("demo", "c-1", NOW)
    async with node.running():
        node.plane.trusted = [old, new]
        node.renewal.take(node.plane.order())
        await eventually(lambda: len(node.renewal.report.trusted_sha256) == 2, "both are trusted")
        assert node.plane.asked == 0
        node.plane.issuer = new
        node.renewal.take(node.plane.order())
        await eventually(
            lambda: node.renewal.report.issuer_sha256 == fingerprint(new.certificate), "renewed under the new one"
        )
        node.plane.trusted = [new]
        node.renewal.take(node.plane.order())
        await eventually(lambda: len(node.renewal.report.trusted_sha256) == 1, "the old one is gone")
    present = load_node_certificate(node.paths)
    assert [fingerprint(one) for one in present.trusted] == [fingerprint(new.certificate)] == [present.issuer_sha256]


async def test_an_order_that_would_cut_the_node_off_from_its_own_certificate_waits_for_the_new_one(node: Node) -> None:
    new = new_authority("demo", "c-1", NOW)
    node.plane.answers = [lambda key: web.Response(status=503)]
    node.plane.issuer, node.plane.trusted = new, [new]
    async with node.running():
        node.renewal.take(node.plane.order())
        await eventually(lambda: bool(node.renewal.report.failure), "no new certificate yet")
        assert len(authorities_of(node.paths.ca_certificate.read_bytes())) == 2
        node.renewal.take(node.plane.order())  # each heartbeat repeats it: no reason to ask more often
        await asyncio.sleep(0)
        assert node.plane.asked == 1
        await node.look()
        await eventually(lambda: len(node.renewal.report.trusted_sha256) == 1, "then the order is carried out")
    assert load_node_certificate(node.paths).issuer_sha256 == fingerprint(new.certificate)


@pytest.mark.parametrize("renames", [0, 1, 2])
async def test_after_a_crash_at_any_write_key_certificate_and_trust_belong_together(
    node: Node, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses every rename from the n-th on, which is where a crash would leave the files."""
    new = new_authority("demo", "c-1", NOW)
    node.plane.issuer, node.plane.trusted = new, [node.plane.issuer, new]
    done, rename = 0, Path.replace

    def replace(path: Path, target: Path) -> Path:
        nonlocal done
        if done >= renames:
            raise OSError(28, "No space left on device")
        done += 1
        return rename(path, target)

    node.wall = NOW + LIFE * 0.9
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        async with node.running():
            await eventually(lambda: bool(node.renewal.report.failure) or node.changes == 1, "tried")
    again = Node(node.plane, node.paths)
    present = load_node_certificate(node.paths)
    assert present.certificate.public_key() == node.key().public_key()
    assert (present.issuer_sha256 == fingerprint(new.certificate)) == (renames == 2)
    NodeTls(node.paths)
    assert again.renewal.report.serial == f"{present.certificate.serial_number:X}"
    assert [file.name for file in node.paths.identity_dir.iterdir() if file.name.startswith(".")] == []


def test_a_node_of_an_earlier_agent_gets_its_two_files_joined(tmp_path: Path) -> None:
    paths = enrolled(tmp_path, new_authority("demo", "c-1", NOW))
    both = paths.node_certificate.read_text()
    at = both.index("-----BEGIN PRIVATE KEY")
    paths.node_certificate.write_text(both[:at])
    paths.node_key.write_text(both[at:])
    settle_files(paths)
    settle_files(paths)
    assert paths.node_certificate.read_text() == both
    NodeTls(paths)


def test_an_authority_is_one_by_its_constraints(tmp_path: Path) -> None:
    authority = new_authority("demo", "c-1", NOW)
    leaf = certificate(authority, ec.generate_private_key(ec.SECP256R1()).public_key(), NOW)
    with pytest.raises(CertificateRefused, match="no certificate of an authority"):
        authorities_of(leaf.encode())
    with pytest.raises(CertificateRefused, match="5 authorities"):
        authorities_of("".join(new_authority("demo", "c-1", NOW).certificate_pem for _ in range(5)).encode())
    assert x509.load_pem_x509_certificate(leaf.encode()).subject.rfc4514_string() == "CN=demo-a"


async def test_new_files_that_cannot_be_read_are_tried_until_they_are_in_use(node: Node) -> None:
    failures = [OSError(24, "Too many open files"), RuntimeError("something nobody thought of")]

    def changed() -> None:
        if failures:
            raise failures.pop(0)
        node.changes += 1

    node.renewal._changed = changed  # what the supervisor gives
    node.wall, before = NOW + LIFE * 0.9, node.renewal.report.serial
    async with node.running():
        await eventually(lambda: bool(node.renewal.report.failure), "not in use")
        assert node.renewal.report.serial == before, "and it is not said that it is"
        await node.look()
        await node.look()
        await eventually(lambda: node.changes == 1, "in use in the end")
    assert node.plane.asked == 1, "and not asked for another one"
