"""One run of the demo, step by step; every claim it prints is a fact it waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import PORTS, body
from lab.demo.nodes import Nodes
from lab.demo.writer import LedgerTarget, PostgresTarget, Target, Writer

CLUSTER: Final = "demo"
WRITES_BEFORE: Final = 300
WRITES_AFTER: Final = 150
PROVISION_DEADLINE_S: Final = 240.0
FAILOVER_DEADLINE_S: Final = 60.0
RESYNC_DEADLINE_S: Final = 120.0
SWAP_DEADLINE_S: Final = 60.0
DELETE_DEADLINE_S: Final = 120.0

Say = Callable[[str], None]


@dataclass
class Result:
    """The figures of one run; seconds throughout."""

    app: str
    address: str = ""
    acknowledged_writes: int = 0
    missing_writes: int = -1
    unplanned_outage_s: float = 0.0
    planned_outage_s: float = 0.0
    resync_s: float = 0.0
    provision_s: float = 0.0
    timeline: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Story:
    def __init__(self, api: ControlPlane, nodes: Nodes, *, app: str, build: Path, say: Say) -> None:
        self._api = api
        self._nodes = nodes
        self._app = app
        self._build = build
        self._say = say
        self._password = ""
        self._shown: dict[str, str] = {}
        self.result = Result(app)

    async def run(self) -> Result:
        address = await self._provision()
        async with Writer(lambda: self._target(address), self._build / "demo-journal.jsonl") as writer:
            self._say(f"writing through the virtual IP {address}:{PORTS[self._app]}, journal outside the cluster …")
            await writer.wait_for(WRITES_BEFORE, deadline_s=FAILOVER_DEADLINE_S)
            self._say(f"  {len(writer.acknowledged)} writes acknowledged")
            survivor = await self._lose_the_primary(writer)
            await self._come_back(survivor)
            await self._swap_back(writer, survivor)
            await writer.stop()
            await self._count(writer, address)
        return self.result

    # -- chapters -------------------------------------------------------------------------------------------------

    async def _provision(self) -> str:
        self._say(f"PUT /api/clusters/{CLUSTER} ({self._app}) …")
        began = time.monotonic()
        _, _, headers = await self._api.call("PUT", f"/clusters/{CLUSTER}", body(self._app))
        await self._api.wait_operation(headers, deadline_s=PROVISION_DEADLINE_S, show=self._show_operation)
        self.result.provision_s = round(time.monotonic() - began, 1)
        cluster = await self._api.cluster(CLUSTER)
        address = self.result.address = str(cluster["virtualIp"]["address"])
        self._say(
            f"  cluster {CLUSTER} is up after {self.result.provision_s} s: virtual IP {address}, {roles(cluster)}"
        )
        return address

    async def _lose_the_primary(self, writer: Writer) -> str:
        victim = await self._serving()
        survivor = "b" if victim == "a" else "a"
        killed = time.time()
        await self._nodes.kill(victim)
        self._say(f"the power of VM {CLUSTER}-{victim}, the primary, is cut")
        await writer.wait_for(WRITES_AFTER, deadline_s=FAILOVER_DEADLINE_S)
        back = writer.first_after(killed + 0.2)
        assert back is not None, "writes were acknowledged after the kill"
        self.result.unplanned_outage_s = round(writer.outage_s(killed, back), 2)
        self.result.timeline = await self._timeline(survivor, killed, back)
        for entry in self.result.timeline:
            self._say(f"  {entry['after_s']:+7.2f} s  {entry['what']}")
        self._say(f"  outage seen by the client: {self.result.unplanned_outage_s} s")
        return survivor

    async def _timeline(self, survivor: str, killed: float, back: float) -> list[dict[str, Any]]:
        events = await self._nodes.events(survivor, killed)
        wanted: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
            (
                "the peer suspects",
                lambda e: e["kind"] == "decision" and e["rule"] in ("suspect-peer", "takeover-consult"),
            ),
            ("the witness names the peer", lambda e: e["kind"] == "witness.write" and e["outcome"] == "won"),
            ("the directory is mounted, the application starts", lambda e: e["kind"] == "application.starting"),
            ("the application is up", lambda e: e["kind"] == "application.started"),
            ("the probe answers OK", lambda e: e["kind"] == "probe.ok"),
        ]
        found: list[dict[str, Any]] = [
            {"what": f"power of the primary cut (epoch {epoch_before(events)})", "at": killed}
        ]
        for what, matches in wanted:
            event = next((event for event in events if matches(event)), None)
            if event is None:
                raise DemoFailed(f"{CLUSTER}/{survivor} has no event for {what!r}; see mirrorctl history there")
            found.append({"what": what, "at": event["at"]})
        found.append({"what": "first write acknowledged again", "at": back})
        return [{"what": e["what"], "after_s": round(float(str(e["at"])) - killed, 2)} for e in found]

    async def _come_back(self, survivor: str) -> None:
        back = "b" if survivor == "a" else "a"
        began = time.monotonic()
        await self._nodes.start(back)
        self._say(f"VM {CLUSTER}-{back} is switched on again; it resynchronises while the application runs …")
        await self._reach({survivor: "PRIM ready", back: "SECOND ready"}, RESYNC_DEADLINE_S)
        self.result.resync_s = round(time.monotonic() - began, 1)
        self._say(f"  {back} is SECOND, in sync, after {self.result.resync_s} s (boot included)")

    async def _swap_back(self, writer: Writer, serving: str) -> None:
        other = "b" if serving == "a" else "a"
        began = time.time()
        self._say(f"POST /api/clusters/{CLUSTER}:swap …")
        _, _, headers = await self._api.call("POST", f"/clusters/{CLUSTER}:swap", {"reason": "demo"})
        await self._api.wait_operation(headers, deadline_s=SWAP_DEADLINE_S, show=self._show_operation)
        await self._reach({other: "PRIM ready", serving: "SECOND ready"}, SWAP_DEADLINE_S)
        await writer.wait_for(WRITES_AFTER, deadline_s=FAILOVER_DEADLINE_S)
        self.result.planned_outage_s = round(writer.outage_s(began, time.time()), 2)
        self._say(f"  {other} serves again; outage seen by the client: {self.result.planned_outage_s} s")

    async def _count(self, writer: Writer, address: str) -> None:
        target = self._target(address)
        try:
            stored = await target.everything()
        finally:
            await target.close()
        missing = sorted(set(writer.acknowledged) - stored)
        self.result.acknowledged_writes = len(writer.acknowledged)
        self.result.missing_writes = len(missing)
        self._say(
            f"{len(writer.acknowledged)} writes were acknowledged, {len(missing)} are missing {missing[:5] or ''}"
        )
        for node in ("a", "b"):
            why = await self._nodes.ask(node, "why")
            self._say(f"  why, {node}: [{why['rule']}] {why['sentence']}")

    async def delete(self) -> None:
        self._say(f"DELETE /api/clusters/{CLUSTER} …")
        status, _, headers = await self._api.call("DELETE", f"/clusters/{CLUSTER}")
        if status == 202:
            await self._api.wait_operation(headers, deadline_s=DELETE_DEADLINE_S, show=self._show_operation)
        self._say("  every resource of the cluster is gone")

    # -- facts ----------------------------------------------------------------------------------------------------

    async def _serving(self) -> str:
        cluster = await self._api.cluster(CLUSTER)
        for node in cluster["nodes"]:
            if node["role"] in ("PRIM", "ALONE"):
                return str(node["name"])
        raise DemoFailed(f"nobody serves: {roles(cluster)}")

    async def _reach(self, wanted: dict[str, str], deadline_s: float) -> None:
        """Wait until the nodes themselves say so."""
        limit = time.monotonic() + deadline_s
        seen: dict[str, str] = {}
        while seen != wanted:
            if time.monotonic() > limit:
                raise DemoFailed(f"not reached within {deadline_s:.0f} s: wanted {wanted}, seen {seen}")
            for node in wanted:
                with contextlib.suppress(DemoFailed):  # not up yet; the deadline above judges
                    status = await self._nodes.ask(node, "status")
                    self._show(f"{CLUSTER}/{node}", f"{status['role']} {status['phase']}: {status['sentence']}")
                    seen[node] = f"{status['role']} {status['phase']}"
            await asyncio.sleep(0.2)

    def _target(self, address: str) -> Target:
        port = PORTS[self._app]
        return LedgerTarget(address, port) if self._app == "ledger" else PostgresTarget(address, port, self._secret)

    async def _secret(self) -> str:
        """The database's password, made on the primary at its first start; it never leaves the lab."""
        for node in ("a", "b"):
            if not self._password:
                with contextlib.suppress(DemoFailed):  # only the serving node shows the directory
                    self._password = await self._nodes.run(node, "cat", "/data/postgres/demo.password")
        if not self._password:
            raise OSError("the database's password is not there yet")
        return self._password

    # -- display --------------------------------------------------------------------------------------------------

    def _show_operation(self, operation: dict[str, Any]) -> None:
        for step in operation.get("steps", ()):
            text = f"{step['status']}" + (f": {step['message']}" if step.get("message") else "")
            self._show(f"step {step['name']}", text, percent=operation.get("percentComplete"))

    def _show(self, subject: str, text: str, *, percent: int | None = None) -> None:
        if self._shown.get(subject) != text:
            self._shown[subject] = text
            prefix = f"{percent:3d} % " if percent is not None else "      "
            if not text.startswith("NotStarted"):
                self._say(f"  {prefix} {subject:<22} {text}")


def epoch_before(events: list[dict[str, Any]]) -> int:
    """The epoch the dead primary was in: one below the survivor's."""
    won = next(event for event in events if event["kind"] == "witness.write" and event["outcome"] == "won")
    return int(won["epoch"]) - 1


def roles(cluster: dict[str, Any]) -> str:
    return ", ".join(f"{node['name']} is {node['role']} ({node['phase']})" for node in cluster["nodes"])
