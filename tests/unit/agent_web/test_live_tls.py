"""Servers that follow the node's certificate: real handshakes, while a connection that stands is kept."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.contract import NodeName
from mirror_agent.net.node_certificate import authorities_of, load_node_certificate, store_pair, store_trust
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.paths import Paths, private_directory, replace_file

from shared.security.authority import Authority, issue_node_certificate, new_authority

NOW = datetime.now(UTC).replace(microsecond=0)


def give(paths: Paths, authority: Authority, node: NodeName) -> None:
    """A certificate of `authority`; the trust must know it."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = issue_node_certificate(
        authority, key.public_key(), cluster="demo", cluster_id="c-1", node=node, addresses=("127.0.0.1",), now=NOW
    )
    store_pair(paths, pem, key)


def trust(paths: Paths, *authorities: Authority) -> None:
    pem = "".join(authority.certificate_pem for authority in authorities)
    store_trust(paths, authorities_of(pem.encode()), load_node_certificate(paths))


def enrolled(root: Path, authority: Authority, node: NodeName) -> Paths:
    paths = Paths(root)
    private_directory(paths.identity_dir)
    replace_file(paths.ca_certificate, authority.certificate_pem.encode(), 0o600)
    give(paths, authority, node)
    return paths


@dataclass
class Echo:
    """A server that says every line back, as the peer's and the console's sockets are set up."""

    context: ssl.SSLContext
    port: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Echo]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0)


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def echoes(self) -> bool:
        """A refused client certificate is seen at the first read only (TLS 1.3)."""
        try:
            self.writer.write(b"still there\n")
            return await self.reader.readline() == b"still there\n"
        except (ssl.SSLError, ConnectionError):
            return False

    @property
    def issuer(self) -> bytes:
        der = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(der)
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""


def identifier(authority: Authority) -> bytes:
    return authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


@dataclass
class Bench:
    """Node a listens, node b calls."""

    old: Authority
    new: Authority
    a: Paths
    b: Paths
    tls_a: NodeTls
    tls_b: NodeTls
    server: Echo
    connections: list[Connection] = field(default_factory=list)

    async def connect(self, context: ssl.SSLContext | None = None, name: str = "a.c-1.mirror") -> Connection:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=context or self.tls_b.peer_client(), server_hostname=name
        )
        self.connections.append(Connection(reader, writer))
        return self.connections[-1]


@pytest_asyncio.fixture(params=["peer", "console"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    old, new = new_authority("demo", "c-1", NOW), new_authority("demo", "c-1", NOW)
    a, b = enrolled(tmp_path / "a", old, "a"), enrolled(tmp_path / "b", old, "b")
    tls_a, tls_b = NodeTls(a), NodeTls(b)
    async with Echo(tls_a.peer_server if request.param == "peer" else tls_a.console).running() as server:
        bench = Bench(old, new, a, b, tls_a, tls_b, server)
        yield bench
        for connection in bench.connections:
            connection.writer.transport.abort()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()


async def test_a_rotation_in_order_never_refuses_anybody_and_keeps_the_connection(bench: Bench) -> None:
    kept = await bench.connect()

    async def everything_works() -> bool:
        return await kept.echoes() and await (await bench.connect()).echoes()

    assert await everything_works()
    steps: tuple[Callable[[], None], ...] = (
        lambda: trust(bench.b, bench.old, bench.new),
        lambda: trust(bench.a, bench.old, bench.new),
        lambda: give(bench.a, bench.new, "a"),
        lambda: give(bench.b, bench.new, "b"),
        lambda: trust(bench.a, bench.new),
        lambda: trust(bench.b, bench.new),
    )
    for step in steps:
        step()
        assert await everything_works(), "the files alone change nothing"
        bench.tls_a.reload()
        bench.tls_b.reload()
        assert await everything_works()
    fresh = await bench.connect()
    assert (kept.issuer, fresh.issuer) == (identifier(bench.old), identifier(bench.new))


async def test_after_the_old_authority_is_dropped_its_certificates_are_refused(bench: Bench) -> None:
    trust(bench.a, bench.old, bench.new)
    trust(bench.b, bench.old, bench.new)
    bench.tls_b.reload()
    give(bench.a, bench.new, "a")
    bench.tls_a.reload()
    late = bench.tls_b.peer_client()  # its certificate is still of the old one
    for name in ("a.c-1.mirror", "127.0.0.1"):
        assert await (await bench.connect(late, name)).echoes(), "before"
    trust(bench.a, bench.new)
    bench.tls_a.reload()
    for name in ("a.c-1.mirror", "127.0.0.1"):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert not await (await bench.connect(late, name)).echoes(), (
                "after, with a name and without one (an address sends none)"
            )


async def test_no_session_outlives_the_trust_in_its_certificate(bench: Bench) -> None:
    """A ticket would carry the old client certificate past the change of trust."""
    first = await bench.connect()
    assert await first.echoes()
    assert first.writer.get_extra_info("ssl_object").session.has_ticket is False


async def test_files_that_do_not_fit_leave_the_present_context_in_use(bench: Bench) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    plain = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = bench.a.node_certificate.read_bytes()
    bench.a.node_certificate.write_bytes(pem[: pem.index(b"-----BEGIN PRIVATE KEY")] + plain)
    with pytest.raises(ssl.SSLError):
        bench.tls_a.reload()
    assert await (await bench.connect()).echoes()
