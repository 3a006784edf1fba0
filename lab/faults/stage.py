"""The lab and the clusters the cases run on: start or adopt it, provision one, know its places, take it away.

Most of a case is waiting, so two clusters of one lab, each in a network of its own, are played on at the same time.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from azure.data.tables import TableServiceClient

from lab import lifetime
from lab.control import LabClient
from lab.demo.api import ControlPlane
from lab.demo.cluster import PORTS, body
from lab.fabric import namespaces
from lab.faults import images
from lab.faults.model import NODES
from lab.faults.place import APPLICATION, Place
from lab.faults.watch import Watch
from lab.info import LabInfo, find_lab, labs_below

CLUSTERS: Final = ("faults", "mishaps")
WITNESS_TABLE: Final = "witness"
PROVISION_DEADLINE_S: Final = 300.0
POLL_S: Final = 1.0
DELETE_DEADLINE_S: Final = 180.0
TAIL_BYTES: Final = 256 * 1024  # a case leaves some tens of KiB

Say = Callable[[str], None]


def wanted() -> dict[str, Any]:
    """The demo's cluster, watched but not repaired: the matrix is about what the two nodes do by themselves."""
    document = body(APPLICATION)
    application = dict(document["application"])
    application["checkers"] = [
        *application["checkers"],
        {"name": "data-disk", "kind": "disk", "path": "/data", "minFreePercent": 2, "action": "failover"}
        | {"intervalS": 2.0, "timeoutS": 4.0, "threshold": 2},
    ]
    return document | {"application": application, "remediation": {"mode": "off"}}


class Stage:
    """A running lab with a provisioned cluster; `places`, `address` and `watch` are valid after `provision`."""

    def __init__(self, info: LabInfo, state: Path, say: Say, *, cluster: str = CLUSTERS[0]) -> None:
        self.info = info
        self.cluster = cluster
        self.state = state
        self.say = say
        self.lab = LabClient(info.control_socket)
        self.places: dict[str, Place] = {}
        self.address = ""
        self._watch: Watch | None = None
        self.next_id = 1

    @property
    def watch(self) -> Watch:
        assert self._watch is not None, "nothing is watched before the cluster is provisioned"
        return self._watch

    @property
    def port(self) -> int:
        return PORTS[APPLICATION]

    @property
    def router(self) -> str:
        return next(name for name in namespaces.of_lab(self.info.id) if f"-net-{self.cluster}-vnet-" in name)

    def occupy(self) -> None:
        """Two runs on one cluster would take each other's accidents for their own. Raises `CannotRun`."""
        self._lock = (self.info.directory / f"{self.cluster}.lock").open("w")  # until this process ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another fault matrix runs on cluster {self.cluster} of lab {self.info.id}"
            raise lifetime.CannotRun(text) from None

    async def provision(self) -> None:
        """PUT the cluster (an existing one is taken as it is), learn the places, begin to watch."""
        async with self._api() as api:
            if not await self._stands(api):
                _, _, headers = await api.call("PUT", f"/clusters/{self.cluster}", wanted())
                await api.wait_operation(headers, deadline_s=PROVISION_DEADLINE_S, show=lambda _: None)
            cluster = await api.cluster(self.cluster)
        self.address = str(cluster["virtualIp"]["address"])
        self.places = {place.name: place for place in await self._find_places()}
        service = TableServiceClient.from_connection_string(self.info.read_tokens().storage)
        self._watch = Watch(
            {name: place.namespace for name, place in self.places.items()},
            self.port,
            service.get_table_client(WITNESS_TABLE),
            str(cluster["id"]),
        )
        self.watch.start()

    async def _stands(self, api: ControlPlane) -> bool:
        """The cluster is there; what an interrupted run left under way is waited for. Raises `CannotRun`."""
        limit = time.monotonic() + PROVISION_DEADLINE_S
        while True:
            _, present, _ = await api.call("GET", "/clusters")
            states = [found["provisioningState"] for found in present["value"] if found["name"] == self.cluster]
            if not states or states == ["Succeeded"]:
                return bool(states)
            if time.monotonic() > limit:
                raise lifetime.CannotRun(f"cluster {self.cluster} stays {states[0]}; delete it, or start another lab")
            await asyncio.sleep(POLL_S)

    async def delete(self) -> None:
        """Everything of the cluster goes, whatever state it is in."""
        self.close()
        for place in self.places.values():
            images.detach(place)
        async with self._api() as api:
            status, _, headers = await api.call("DELETE", f"/clusters/{self.cluster}")
            if status == 202:
                await api.wait_operation(headers, deadline_s=DELETE_DEADLINE_S, show=lambda _: None)

    def close(self) -> None:
        """End the observers."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _api(self) -> ControlPlane:
        assert self.info.control_plane_url is not None
        return ControlPlane(self.info.control_plane_url, self.info.read_tokens().admin, str(self.info.ca))

    async def _find_places(self) -> list[Place]:
        disks = self.info.directory / "disks"
        found = {str(node["name"]): node for node in await self.lab.acall("nodes")}
        places = []
        for name in NODES:
            vm = f"{self.cluster}-{name}"
            node = found[vm]
            places.append(
                Place(
                    name=name,
                    vm=vm,
                    address=node["privateAddress"],
                    public_address=node["publicAddress"],
                    namespace=node["namespace"],
                    directory=Path(node["directory"]),
                    os_disk=Path(node["osDisk"]),
                    data_disk=next(iter(sorted(disks.glob(f"{vm}-data-*")))),
                    cgroup=Path(node["cgroup"]),
                )
            )
        return places

    # --- the nodes' own words, for evidence ------------------------------------------------------------------------
    def events(self, node: str, since_wall: float) -> list[dict[str, Any]]:
        """From the end of the node's event log on its disk, also of a VM that is off."""
        path = self.places[node].state / "events.jsonl"
        older = path.with_name("events.jsonl.1")
        lines = _tail(path) if not older.exists() else [*_tail(older), *_tail(path)]
        found = []
        for line in lines:
            try:
                event = json.loads(line)
                at = datetime.fromisoformat(str(event["utc"])).timestamp()
            except (ValueError, KeyError):
                continue  # a line torn by a power failure, or cut at the beginning of what was read
            if at >= since_wall:
                found.append(event | {"at": at, "node": node})
        return found


def _tail(path: Path) -> list[str]:
    """The lines in the last TAIL_BYTES."""
    if not path.exists():
        return []
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return stream.read().decode(errors="replace").splitlines()


async def open_lab(state: Path, lab_id: str | None, say: Say) -> tuple[LabInfo, bool]:
    """(the lab, whether it was started here). `lab_id` names one that runs already. Raises `CannotRun`."""
    if lab_id is not None:
        return find_lab(state, lab_id), False
    others = {owner.lab_id for owner in labs_below(state)}
    began = time.monotonic()
    status = await asyncio.to_thread(lifetime.start_detached, ["--state", str(state), "up"], state)
    if status:
        raise lifetime.CannotRun(f"the lab did not come up (exit status {status})")
    mine = next(owner.lab_id for owner in labs_below(state) if owner.alive and owner.lab_id not in others)
    say(f"lab {mine} is up after {time.monotonic() - began:.0f} s")
    return find_lab(state, mine), True
