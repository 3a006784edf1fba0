"""The mirror as a candidate: two engines of this checkout, one per network namespace, paired and in sync.

The engines are started and driven through `MirrorHandle`, as the supervisor does it. A child process is born in the
network namespace of the thread that starts it, so each node has a thread of its own, with an event loop, that has
entered the node's namespace.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.contract import NodeName
from mirror_agent.mirror.control import MirrorConfig, MirroredPath, MirrorHandle, MirrorStatus

from bench.mirror.commands import BenchError
from bench.mirror.ground import Ground
from bench.mirror.network import ADDRESS, enter
from bench.mirror.usage import Process, find
from shared.security.authority import issue_node_certificate, new_authority, node_dns_name

Result = TypeVar("Result")
_CLUSTER: Final = "bench"
_CLUSTER_ID: Final = "00000000-0000-4000-8000-000000000001"
_EPOCH: Final = 1
_SYNC_S: Final = 60.0
_LOOK_S: Final = 0.02
_PLAIN_SITE: Final = Path(__file__).parent / "without_tls"
NODES: Final[tuple[tuple[NodeName, NodeName], ...]] = (("a", "b"), ("b", "a"))


class NodeLoop:
    """An event loop in a thread that is in the node's network namespace."""

    def __init__(self, node: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(node,), name=f"node-{node}", daemon=True)
        self._thread.start()

    def _run(self, node: str) -> None:
        enter(node)
        self._loop.run_forever()

    def do(self, work: Coroutine[Any, Any, Result], within_s: float = _SYNC_S) -> Result:
        """Carries it out over there; TimeoutError if it takes too long."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Certificates:
    """One cluster authority and a certificate per node, issued by the product's own code."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700)
        now = datetime.now(UTC)
        authority = new_authority(_CLUSTER, _CLUSTER_ID, now)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_text(authority.certificate_pem)
        for node, _ in NODES:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = issue_node_certificate(
                authority,
                key.public_key(),
                cluster=_CLUSTER,
                cluster_id=_CLUSTER_ID,
                node=node,
                addresses=[ADDRESS[node]],
                now=now,
            )
            self.certificate_file(node).write_text(certificate)
            self.key_file(node).write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def certificate_file(self, node: str) -> Path:
        return self._directory / f"{node}.pem"

    def key_file(self, node: str) -> Path:
        return self._directory / f"{node}-key.pem"


class Mirror:
    """A pair in one acknowledgement mode. Started by `start`."""

    def __init__(
        self,
        mode: str,
        port: int,
        ground: Ground,
        loops: dict[str, NodeLoop],
        certificates: Certificates,
        namespaces: dict[str, int],
        *,
        encrypted: bool = True,
    ) -> None:
        self.name = mode if encrypted else f"{mode}-plain"
        self.directory = ground.disk["a"] / self.name
        self.copy: Path | None = ground.disk["b"] / self.name
        self._encrypted = encrypted
        self._loops = loops
        self._namespaces = namespaces
        self._home = ground.base / "engines" / self.name
        self._configs = {node: self._config(mode, node, peer, port, ground, certificates) for node, peer in NODES}
        self._handles: dict[str, MirrorHandle] = {}

    def _config(
        self, mode: str, node: NodeName, peer: NodeName, port: int, ground: Ground, certificates: Certificates
    ) -> MirrorConfig:
        home = self._home / node
        return MirrorConfig(
            cluster_id=_CLUSTER_ID,
            node=node,
            peer=peer,
            peer_addresses=(ADDRESS[peer],),
            listen_address=ADDRESS[node],
            port=port,
            paths=(MirroredPath(str(ground.disk[node] / self.name), mode, name=f"/{self.name}"),),
            # On the node's disk: what the engine flushes must cost what flushing costs.
            state_dir=str(ground.disk[node] / f".state-{self.name}"),
            quarantine_dir=str(ground.disk[node] / f".quarantine-{self.name}"),
            runtime_dir=str(home),
            certificate_file=str(certificates.certificate_file(node)),
            key_file=str(certificates.key_file(node)),
            ca_file=str(certificates.ca_file),
            peer_san=node_dns_name(peer, _CLUSTER_ID),
        )

    def start(self) -> None:
        before = os.environ.get("PYTHONPATH")
        if not self._encrypted:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PLAIN_SITE), before)))
        try:
            for node, config in self._configs.items():
                for entry in config.paths:
                    Path(entry.path).mkdir()
                self._handles[node] = self._loops[node].do(MirrorHandle.launch(config, on_status=lambda _status: None))
        finally:
            if not self._encrypted:
                os.environ.pop("PYTHONPATH")
                if before is not None:
                    os.environ["PYTHONPATH"] = before
        a, b = self._handles["a"], self._handles["b"]
        self._loops["b"].do(b.become_replica(epoch=_EPOCH))
        self._loops["a"].do(a.become_primary(epoch=_EPOCH, paired=False))
        self._until("in sync", lambda status: status.link == "live")
        self._loops["a"].do(a.require_peer(epoch=_EPOCH))
        self._until("paired", lambda status: status.acknowledging == "paired")

    def _until(self, what: str, fact: Callable[[MirrorStatus], bool]) -> None:
        deadline = time.monotonic() + _SYNC_S
        while not fact(self._handles["a"].status):
            if time.monotonic() > deadline:
                raise BenchError(f"mirror ({self.name}): not {what} after {_SYNC_S:.0f} s: {self._handles['a'].status}")
            time.sleep(_LOOK_S)

    def check(self) -> None:
        status = self._handles["a"].status
        if (status.mode, status.link, status.acknowledging) != ("primary", "live", "paired"):
            raise BenchError(f"mirror ({self.name}): not a live pair any more: {status}")

    def processes(self) -> list[Process]:
        home = f"{self._home}{os.sep}"
        return find(
            lambda argv: "mirror_agent.mirror" in argv and any(word.startswith(home) for word in argv),
            self._namespaces,
        )

    def stop(self) -> None:
        for node, handle in self._handles.items():
            self._loops[node].do(handle.stop())
        self._handles.clear()
