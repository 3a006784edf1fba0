"""Two machines of a pair below a temporary directory, real TLS on the loopback, and a safety record in memory."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirror_agent.contract import WitnessAccess
from mirror_agent.core.model import Record
from mirror_agent.net.node_certificate import fingerprint, load_node_certificate
from mirror_agent.net.witness_founding import Founding
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.pair.admission import Gate
from mirror_agent.pair.documents import PairFacts, PairModule
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.founding import Founded, found
from mirror_agent.pair.joining import Joined, NotJoined, join
from mirror_agent.pair.server import PairServer
from mirror_agent.paths import Paths

CLUSTER_ID = "6f1d2c3b-0000-4000-8000-00000000abcd"
SECRET = "5f0c2c52-6d1b-4c07-9a53-3c2e7e5f8f10-7b0fd1a2"
LINK_SECRET = "0a9c55f4-3a57-4b0e-8a26-51d7f3b1c9aa-91b2c3d4"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MODULE = PairModule.model_validate_json(
    json.dumps(
        {"application": {"name": "pay", "startPrim": "true\n", "replicatedPaths": [{"path": "/data/pay"}]}},
    )
)


def facts(node: str, **changes: Any) -> PairFacts:
    document: dict[str, Any] = {
        "cluster": "pay",
        "clusterId": CLUSTER_ID,
        "node": node,
        "nodes": {
            "a": {"address": "127.0.0.1", "hostName": "pay-a.example.net"},
            "b": {"address": "127.0.0.2", "hostName": "pay-b.example.net"},
        },
        "virtualName": "pay.example.net",
        "witness": {"endpoint": "https://pay.table.core.windows.net/", "table": "witness", "sas": "sig=s"},
        "secret": SECRET,
    }
    return PairFacts.model_validate(document | changes)


@dataclass
class Recorded:
    """An event log that is looked at."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, kind: str, /, **fields: object) -> None:
        self.events.append((kind, fields))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


@dataclass
class Table:
    """Insert only, as the real one is asked; `unknown`: what the next calls answer instead."""

    record: Record | None = None
    unknown: list[str] = field(default_factory=list)
    asked: list[WitnessAccess] = field(default_factory=list)

    async def insert(self, access: WitnessAccess, record: Record) -> Founding:
        self.asked.append(access)
        if self.unknown:
            return Founding(unknown=self.unknown.pop(0))
        if self.record is not None:
            return Founding(existing=self.record)
        self.record = record
        return Founding()


@dataclass
class Wall:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def later(self, step: timedelta) -> None:
        self.now += step


@dataclass
class Ticks:
    """A clock that stands; nobody is kept waiting by it."""

    seconds: float = 1000.0

    def now_s(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Machine:
    root: Path
    log: Recorded = field(default_factory=Recorded)

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def files(self) -> PairFiles:
        return PairFiles(self.paths)

    def written(self) -> list[str]:
        """What is on the disk, secrets of the process's own making left out."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def with_only(self, root: Path, kept: list[str]) -> Machine:
        """A machine whose power was cut when just these files had been written."""
        for name in kept:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / name, root / name)
        return Machine(root)


async def founded(machine: Machine, table: Table, **changes: Any) -> Founded:
    outcome = await found(machine.files, facts("a", **changes), MODULE, insert=table.insert, now=NOW, log=machine.log)
    assert isinstance(outcome, Founded), outcome
    return outcome


@dataclass
class Host:
    """Node a, listening. `gate` is where admission is decided."""

    machine: Machine
    gate: Gate
    server: PairServer
    port: int
    wall: Wall
    ticks: Ticks

    async def admits(self, machine: Machine, *, port: int | None = None, **changes: Any) -> Joined | NotJoined:
        return await join(
            machine.files,
            lambda: facts("b", **changes),
            MODULE,
            wall=self.wall,
            log=machine.log,
            clock=Ticks(),
            deadline_s=0.0,
            port=port or self.port,
        )


@contextlib.asynccontextmanager
async def listening(machine: Machine, node: str = "a") -> AsyncIterator[Host]:
    wall, ticks, files = Wall(), Ticks(), machine.files

    def presented() -> str:
        return fingerprint(load_node_certificate(machine.paths).certificate)

    gate = Gate(files, facts(node), presented=presented, now_s=ticks.now_s, wall=wall, log=machine.log)
    tls = NodeTls(machine.paths).console
    name = f"{facts(node).peer}.{CLUSTER_ID}.mirror"
    server = PairServer(
        files,
        facts(node),
        gate,
        tls=tls,
        peer_name=name,
        revoked=dict,
        wall=wall,
        log=machine.log,
        host="127.0.0.1",
        port=0,
    )
    port = await server.start()
    try:
        yield Host(machine, gate, server, port, wall, ticks)
    finally:
        await server.stop()
