"""Two real engines on the loopback, with certificates of a throw-away authority and a relay that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mirror_agent.mirror import mounts
from mirror_agent.mirror.control import (
    MirrorConfig,
    MirroredPath,
    MirrorError,
    MirrorHandle,
    MirrorLimits,
    MirrorStatus,
)
from mirror_agent.mirror.estate import drain
from mirror_agent.mirror.verify_record import VerifyRecord, VerifyStore

CLUSTER = "11111111-2222-3333-4444-555555555555"
DEADLINE_S = 30.0
# The same suite for either front: `make front-library` runs it on the one through a FUSE library.
FRONT = os.environ.get("MIRROR_FRONT", "kernel")
ADDRESS = {"a": "127.0.71.4", "b": "127.0.71.5", "relay": "127.0.71.6"}


class Authority:
    """A certificate authority that signs the two nodes (and, if asked, a stranger)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror test authority")])
        self._name = name
        now = datetime.datetime.now(datetime.UTC)
        public = self._key.public_key()
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, node: str, cluster: str = CLUSTER) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test-{node}")]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName(f"{node}.{cluster}.mirror"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file, key_file = self._directory / f"{node}.pem", self._directory / f"{node}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file


class Relay:
    """Forwards TCP from the relay's address to a node until it is cut; healed, it forwards new connections."""

    def __init__(self, port: int, target: str) -> None:
        self._port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._left_bytes: int | None = None
        # How much later everything arrives, each way.
        self.delay_s = 0.0

    def go_silent(self, after_bytes: int = 0) -> None:
        """Keeps the connections but forwards nothing more once `after_bytes` went through (about; both directions)."""
        self._left_bytes = after_bytes
        if not after_bytes:
            self._open.clear()

    @property
    def silent(self) -> bool:
        return not self._open.is_set()

    def go_on(self) -> None:
        """Ends the silence."""
        self._left_bytes = None
        self._open.set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, ADDRESS["relay"], self._port)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target, self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self._left_bytes is not None:
                    self._left_bytes -= len(data)
                    if self._left_bytes <= 0:
                        self._open.clear()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def cut(self) -> None:
        """Breaks all connections and refuses new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        await self.cut()
        self._open.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def eventually(fact: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Waits until the fact is true; TimeoutError if it never is."""
    async with asyncio.timeout(within_s):
        while True:
            if fact():
                return
            await asyncio.sleep(0.005)


def free_port() -> int:
    """A port that is free on all addresses of the pair; pairs of other processes use the same ones."""
    while True:
        with socket.create_server((ADDRESS["a"], 0)) as probe:
            port: int = probe.getsockname()[1]
            try:
                for other in ("b", "relay"):
                    socket.create_server((ADDRESS[other], port)).close()
            except OSError:
                continue
            return port


@dataclass
class Node:
    name: str
    config: MirrorConfig
    handle: MirrorHandle | None = None
    seen: list[MirrorStatus] = field(default_factory=list)

    @property
    def roots(self) -> list[Path]:
        return [Path(entry.path) for entry in self.config.paths]

    @property
    def root(self) -> Path:
        return self.roots[0]

    @property
    def state_dir(self) -> Path:
        return Path(self.config.state_dir)

    @property
    def engine(self) -> MirrorHandle:
        assert self.handle is not None
        return self.handle

    @property
    def status(self) -> MirrorStatus:
        return self.engine.status

    @property
    def runs(self) -> bool:
        """The engine was launched, and has neither been stopped nor killed."""
        process = self.handle._process if self.handle is not None else None
        return process is not None and process.returncode is None

    async def launch(self) -> None:
        self.handle = await MirrorHandle.launch(self.config, on_status=self.seen.append)

    async def until(self, what: Callable[[MirrorStatus], bool], within_s: float = DEADLINE_S) -> MirrorStatus:
        await eventually(lambda: what(self.status), within_s)
        return self.status

    async def kill(self) -> None:
        """Sudden death of the node, as far as the mirror goes: the engine, and what is kept for its successor."""
        self.engine._ending = True
        estate = self.engine._estate
        if estate is not None:
            drain(estate[1])
        await self.kill_engine()

    async def kill_engine(self) -> None:
        """Sudden death of the engine alone, as by SIGKILL."""
        process = self.engine._process
        assert process is not None
        process.kill()
        await process.wait()

    async def close(self) -> None:
        if self.handle is not None:
            await self.handle.stop()
            self.handle = None
        for root in self.roots:
            await asyncio.to_thread(mounts.abort, str(root))


class Pair:
    """Nodes a and b. `a` reaches `b` through the relay (which lives in the test's process: with `relayed=False` calls
    that keep the interpreter lock, such as msync, cannot stop the link), `b` reaches `a` directly."""

    def __init__(
        self,
        directory: Path,
        *,
        mode: str = "strict",
        roots: int = 1,
        limits: MirrorLimits | None = None,
        relayed: bool = True,
        front: str = FRONT,
    ) -> None:
        port = free_port()
        authority = Authority(directory / "pki")
        self.relay = Relay(port, ADDRESS["b"])
        self.nodes = {}
        for name, peer in (("a", "b"), ("b", "a")):
            certificate, key = authority.issue(name)
            home = directory / name
            self.nodes[name] = Node(
                name,
                MirrorConfig(
                    cluster_id=CLUSTER,
                    node=name,
                    peer=peer,
                    peer_addresses=(ADDRESS["relay" if relayed and peer == "b" else peer],),
                    listen_address=ADDRESS[name],
                    port=port,
                    paths=tuple(
                        MirroredPath(str(home / f"data{index}"), mode, name=f"/data{index}") for index in range(roots)
                    ),
                    state_dir=str(home / "state"),
                    quarantine_dir=str(home / "quarantine"),
                    runtime_dir=str(home / "run"),
                    certificate_file=str(certificate),
                    key_file=str(key),
                    ca_file=str(authority.ca_file),
                    peer_san=f"{peer}.{CLUSTER}.mirror",
                    limits=limits or MirrorLimits(),
                    front=front,
                ),
            )
            for root in self.nodes[name].roots:
                root.mkdir(parents=True)

    @property
    def a(self) -> Node:
        return self.nodes["a"]

    @property
    def b(self) -> Node:
        return self.nodes["b"]

    async def start(self) -> None:
        await self.relay.start()
        await asyncio.gather(self.a.launch(), self.b.launch())

    async def make_pair(self, epoch: int = 1) -> None:
        """a primary, b its synchronised replica."""
        await self.b.engine.become_replica(epoch=epoch)
        await self.a.engine.become_primary(epoch=epoch, paired=False)
        await self.a.until(lambda status: status.link == "live")
        await self.a.engine.require_peer(epoch=epoch)

    async def close(self) -> None:
        await asyncio.gather(self.a.close(), self.b.close())
        await self.relay.stop()

    def with_mode(self, node: Node, mode: str) -> None:
        node.config = replace(node.config, paths=tuple(replace(entry, mode=mode) for entry in node.config.paths))


@contextlib.asynccontextmanager
async def running_pair(
    directory: Path,
    *,
    mode: str = "strict",
    roots: int = 1,
    limits: MirrorLimits | None = None,
    relayed: bool = True,
    front: str = FRONT,
) -> AsyncIterator[Pair]:
    """Ends with the oracle: if a primary and its live replica are left, a verify must find them identical."""
    pair = Pair(directory, mode=mode, roots=roots, limits=limits, relayed=relayed, front=front)
    try:
        await pair.start()
        yield pair
        await verify(pair)
    finally:
        await pair.close()


def tree(root: Path, *, times: bool = True) -> dict[str, object]:
    """Everything that must be equal on both nodes: names, types, modes, owners, links, content, times, attributes."""
    found: dict[str, object] = {}
    numbers: dict[int, str] = {}

    def visit(path: bytes, relative: bytes) -> None:
        st = os.lstat(path)
        name = os.fsdecode(relative)
        first = numbers.setdefault(st.st_ino, name)
        content: object = None
        if stat.S_ISREG(st.st_mode):
            content = Path(os.fsdecode(path)).read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            content = st.st_rdev
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (
            f"{st.st_mode:o}",
            st.st_uid,
            st.st_gid,
            st.st_mtime_ns if times else 0,
            0 if stat.S_ISDIR(st.st_mode) else st.st_nlink,
            first,
            attributes,
            content,
        )
        if stat.S_ISDIR(st.st_mode):
            for child in sorted(os.listdir(path)):
                visit(os.path.join(path, child), os.path.join(relative, child))

    visit(os.fsencode(root), b".")
    return found


def differences(left: dict[str, object], right: dict[str, object]) -> list[str]:
    return [
        f"{name}: {str(left.get(name))[:300]} != {str(right.get(name))[:300]}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


# -- the oracle: the engines' own verify, and a comparison of the trees by the test itself ---------------------------


async def run_verify(node: Node, *, repair: bool = False) -> VerifyRecord:
    """Begins a verify on the primary and waits for its end; the record it left there."""
    await node.engine.verify(repair=repair, rate_bytes_per_s=1 << 40)
    # It yields to the application's threads, which on a slow machine leave it little.
    await node.until(lambda status: not status.verify.running, 4 * DEADLINE_S)
    record = last_record(node)
    assert record is not None, "a verify that ended leaves a record"
    return record


def last_record(node: Node) -> VerifyRecord | None:
    return VerifyStore(node.state_dir).last


def both(here: Path, there: Path) -> tuple[dict[str, object], dict[str, object]]:
    return tree(here, times=False), tree(there, times=False)


async def loses_link(primary: Node) -> bool:
    """The test left a replica, or a link, that was about to end."""
    try:
        await primary.until(lambda status: status.link != "live")
    except TimeoutError:
        return False
    return True


async def verify(pair: Pair) -> None:
    """If one node is primary and the other its live replica: a verify finds nothing, and neither does a comparison of
    the two trees by the test itself once the file times have followed.

    A primary learns of its replica's end a moment later, so the replica is asked too, and a verify may meet a link that
    was being lost; only then may it be refused."""
    primary = next((node for node in (pair.a, pair.b) if node.handle and node.status.mode == "primary"), None)
    if primary is None or primary.status.link != "live" or primary.status.acknowledging == "parked":
        return
    other = pair.b if primary is pair.a else pair.a
    if not other.runs:
        return
    try:
        record = await run_verify(primary)
    except MirrorError:
        if await loses_link(primary):
            return
        raise
    if record.outcome == "incomplete" and await loses_link(primary):
        return
    found = [f"{one.path}: {one.kind} {one.detail}" for one in record.listed]
    assert record.outcome == "identical", f"verify: {record.outcome} {record.reason} {found}"
    for here, there in zip(primary.roots, other.roots, strict=True):
        left, right = await asyncio.to_thread(both, here, there)
        assert not differences(left, right), differences(left, right)
