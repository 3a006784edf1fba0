"""What the agent's tests share: a clock that moves only when told, facts to wait for, a certificate authority."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mirror_agent.contract import (
    Application,
    ApplicationState,
    Checker,
    Heartbeat,
    NodeConfiguration,
    Peer,
    Phase,
    ReplicatedPath,
    Role,
    WitnessAccess,
)

PATIENCE_S = 20.0
SAMPLE_PATH = r"D:\data\sample" if sys.platform == "win32" else "/data/sample"


async def eventually(fact: Callable[[], bool], what: str) -> None:
    """Wait until `fact` is true; the deadline is for a broken test only."""
    end = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < end, f"never came true: {what}"
        await asyncio.sleep(0.005)


class FakeClock:
    """Time moves by `advance` only; sleepers wake in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, waiting))
        await waiting

    @property
    def next_wake_s(self) -> float | None:
        times = [at for at, waiting in self._sleepers if not waiting.done()]
        return min(times) - self.now if times else None

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            await settle()
            self._sleepers = [entry for entry in self._sleepers if not entry[1].done()]
            due = [entry for entry in self._sleepers if entry[0] <= end]
            if not due:
                break
            at, waiting = min(due, key=lambda entry: entry[0])
            self.now = max(self.now, at)
            waiting.set_result(None)
        self.now = end
        await settle()


async def settle() -> None:
    """Let everything that can run without time or I/O run."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass
class Recorded:
    """An event log that remembers."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, kind: str, /, **fields: object) -> None:
        self.events.append((kind, fields))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


def application(
    *, start_prim: str = "true\n", checkers: tuple[Checker, ...] = (), start_timeout_s: float = 30.0, **more: object
) -> Application:
    body: dict[str, object] = {
        "name": "sample",
        "start_prim": start_prim,
        "replicated_paths": (ReplicatedPath(path=SAMPLE_PATH),),
        "checkers": checkers,
        "start_timeout_s": start_timeout_s,
        **more,
    }
    return Application.model_validate(body)


def configuration(version: int = 1, **more: object) -> NodeConfiguration:
    body: dict[str, object] = {
        "version": version,
        "cluster_name": "demo",
        "cluster_id": "c-1",
        "node": "a",
        "address": "10.0.0.4",
        "peer": Peer(name="b", addresses=("10.0.0.5",)),
        "witness": WitnessAccess(
            endpoint="https://account.table.core.windows.net",
            table="witness",
            partition_key="c-1",
            row_key="record",
            sas="sv=2020&sig=VERYSECRETSIGNATURE",
        ),
        "application": application(),
        **more,
    }
    return NodeConfiguration.model_validate(body)


def heartbeat(sequence: int) -> Heartbeat:
    return Heartbeat(
        node="a",
        boot_id="boot",
        agent_start_id="start",
        sequence=sequence,
        sent_utc="2026-11-01T00:00:00Z",
        role=Role.ALONE,
        phase=Phase.READY,
        epoch=1,
        rule="serving",
        sentence="serving alone",
        application=ApplicationState.RUNNING,
        probe_ok=True,
    )


class Authority:
    """A certificate authority with the files of the certificates it issued."""

    def __init__(self, directory: Path, name: str = "cluster CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = (
            _builder(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "ca.pem"
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> str:
        return self.path.read_text()

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        unit: str | None = None,
        names: tuple[x509.GeneralName, ...] = (),
    ) -> str:
        """`names`: instead of localhost."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if unit is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
        alternatives = x509.SubjectAlternativeName(
            names or [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        certificate = (
            _builder(x509.Name(attributes), self._certificate.subject, public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(alternatives, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str, unit: str | None = None, names: tuple[x509.GeneralName, ...] = ()) -> tuple[Path, Path]:
        """Files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._directory / f"{name}.pem"
        key_file = self._directory / f"{name}.key"
        certificate.write_text(self.sign(key.public_key(), name, unit, names))
        key_file.write_bytes(self.private_pem(key))
        return certificate, key_file

    @staticmethod
    def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return key.private_bytes(serialization.Encoding.PEM, form, plain)

    def client(self, files: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, with a certificate of its own if given."""
        context = ssl.create_default_context(cafile=str(self.path))
        if files is not None:
            context.load_cert_chain(*files)
        return context

    def server(self, name: str = "server") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name))
        return context


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
