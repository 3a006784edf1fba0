"""A farm in the lab as its control plane shows it, and the figures of what befalls it, in build/farm.json.

Times are reported, not demanded: a busy machine is slow, and no finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.info import LabInfo
from lab.paths import REPOSITORY
from tests.lab.farm.cells import START, WEB
from tests.lab.farm.clients import Clients, Loss

RESULT: Final = REPOSITORY / "build/farm.json"
DEADLINE_S: Final = 600.0
POLL_S: Final = 0.5


def wanted(count: int) -> dict[str, Any]:
    document = body("ledger") | {"kind": "farm", "remediation": {"mode": "off"}}
    document["compute"] |= {"nodes": count}
    document["network"]["rules"] = [{"name": "web", "protocol": "tcp", "frontendPort": 80, "backendPort": 8080}]
    document["application"] = {
        "name": "web",
        "startPrim": START,
        "files": [{"path": "web.py", "content": WEB}],
        "servicePorts": [8080],
        "checkers": [{"name": "answers", "kind": "http", "port": 8080, "path": "/", "threshold": 3}],
    }
    return document


@dataclass
class Farm:
    api: ControlPlane
    nodes: Nodes
    count: int
    figures: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = wanted(self.count)

    @property
    def name(self) -> str:
        return self.nodes.cluster

    @property
    def names(self) -> set[str]:
        return set("abcd"[: self.count])

    async def provision(self) -> str:
        """The virtual IP."""
        began = time.monotonic()
        await self.put()
        self.figures["provisioned_s"] = round(time.monotonic() - began, 1)
        cluster = await self.api.cluster(self.name)
        assert {node["name"] for node in cluster["nodes"]} == self.names
        return str(cluster["virtualIp"]["address"])

    async def put(self) -> None:
        """And its end."""
        _, _, headers = await self.api.call("PUT", f"/clusters/{self.name}", self.wanted)
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)

    async def roles(self) -> dict[str, str]:
        return {
            node["name"]: f"{node['role']} {node['phase']}" for node in (await self.api.cluster(self.name))["nodes"]
        }

    async def overview(self) -> dict[str, Any]:
        _, document, _ = await self.api.call("GET", f"/clusters/{self.name}/overview")
        return document

    async def verdict(self) -> tuple[str, str]:
        """Of the cluster: its state and its sentence; "" before the first audit."""
        track = (await self.overview())["verdict"]
        return ("", "") if track is None else (track["state"], track["sentence"])

    async def until_verdict(self, state: str, node: str = "") -> None:
        """And its sentence names the node."""
        seen = ("", "")

        async def told() -> bool:
            nonlocal seen
            seen = await self.verdict()
            return seen[0] == state and (not node or f"{node}: " in seen[1])

        try:
            await until(told, f"the verdict is {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {seen}") from None

    async def act(self, word: str) -> None:
        _, _, headers = await self.api.call("POST", f"/clusters/{self.name}:{word}", {"reason": "a test"})
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)

    async def delete(self) -> None:
        _, _, headers = await self.api.call("DELETE", f"/clusters/{self.name}")
        await self.api.wait_operation(headers, deadline_s=DEADLINE_S, show=lambda _: None)


async def until(fact: Callable[[], Any], what: str) -> None:
    """Facts that ask the control plane or a machine may not be answered now; the deadline judges."""
    limit = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(DemoFailed):
            found = fact()
            if await found if asyncio.iscoroutine(found) else found:
                return
        assert time.monotonic() < limit, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def farm_of(
    count: int, lab: LabInfo, state: Path, name: str, change: Callable[[dict[str, Any]], object] = lambda document: None
) -> AsyncIterator[Farm]:
    """Not provisioned yet; `change` alters what will be asked for."""
    assert lab.control_plane_url is not None
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        farm = Farm(api, Nodes(lab, state, name), count)
        change(farm.wanted)
        yield farm


async def everybody_serves(farm: Farm, clients: Clients) -> None:
    await all_answer(farm, clients)

    async def up() -> bool:
        return await farm.roles() == dict.fromkeys(sorted(farm.names), "UP ready")

    await until(up, "the cluster shows every node as UP")
    await farm.until_verdict("healthy")


async def all_answer(farm: Farm, clients: Clients, names: Iterable[str] = ()) -> None:
    """Each of them (all, if none is named) answers a request that begins from now on."""
    wanted_names, began = set(names) or farm.names, clients.now()
    await until(lambda: clients.nodes_since(began) >= wanted_names, f"every one of {sorted(wanted_names)} answers")


async def served_without(farm: Farm, clients: Clients, lost: set[str], what: str) -> None:
    """`lost` nodes have just gone: their share fails until the load balancer knows, and then nobody notices."""
    began = clients.now()
    await until(lambda: clients.quiet_since(began), "nobody is sent to the lost nodes any more")
    settled = clients.now()
    note(farm, what, clients.loss(began, settled))
    assert clients.nodes_since(settled) <= farm.names - lost


def costs_nothing(farm: Farm, what: str, loss: Loss) -> None:
    note(farm, what, loss)
    assert not loss.failed, f"{what}: this must not cost a request: {loss}"


def note(farm: Farm, what: str, loss: Loss) -> None:
    farm.figures[what] = loss.document()
    print(f"farm of {farm.count}, {what}: {json.dumps(loss.document())}", flush=True)


def record(farm: Farm, name: str) -> None:
    """Beside those of earlier tests, with when and at which commit it was."""
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    made = {"utc": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "load_1_min": _load()}
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[name] = {"made": made} | farm.figures
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def _load() -> float:
    return round(os.getloadavg()[0], 1)
