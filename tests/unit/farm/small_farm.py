"""A farm node with its store, log and orders, and hands that end at once or when told: no processes, no network."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.contract import CertificateReport, FarmConfiguration, Peer
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.commands import FarmCommands
from mirror_agent.farm.events import PrepareEnded, StartEnded, StopEnded
from mirror_agent.farm.model import Action, Limits, State
from mirror_agent.farm.neighbours import Neighbours
from mirror_agent.farm.node import FarmNode
from mirror_agent.farm.report import FarmReporter
from mirror_agent.farm.wish_store import WishStore
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths

from tests.agent_samples import application


def farm(nodes: str = "abc", node: str = "a", **more: object) -> FarmConfiguration:
    addresses = {name: f"10.0.0.{4 + number}" for number, name in enumerate("abcd")}
    body: dict[str, object] = {
        "kind": "farm",
        "version": 1,
        "cluster_name": "web",
        "cluster_id": "c-1",
        "node": node,
        "address": addresses[node],
        "peers": [
            Peer.model_validate({"name": name, "addresses": (addresses[name],)}) for name in nodes if name != node
        ],
        "application": application(replicated_paths=()),
        **more,
    }
    return FarmConfiguration.model_validate(body)


@dataclass
class SmallFarm:
    """`failing` names the action that fails, with its reason; `held` the one that does not end."""

    root: Path
    configuration: FarmConfiguration = field(default_factory=farm)
    failing: dict[Action, str] = field(default_factory=dict)
    held: set[Action] = field(default_factory=set)
    begun: list[Action] = field(default_factory=list)
    certificate: CertificateReport | None = None

    def __post_init__(self) -> None:
        paths = Paths(self.root)
        self.log = EventLog(paths.events, stderr=io.StringIO())
        self.store = WishStore(paths, self.log)
        kept = self.store.load()
        limits = Limits(drain_s=0.2)
        state = State(limits=limits, wish=kept.wish, wish_reason=kept.reason)
        self.node = FarmNode(state, store=self.store, log=self.log)
        self.node.connect(self._act)
        self.switches = Switches(paths.switches, configured_failover=True, log=self.log)
        surroundings = Surroundings(self.root, dict, list)
        self.checkers = NodeCheckers(
            self.configuration.application, surroundings, on_trip=lambda _: None, log=self.log.record
        )
        self.neighbours = Neighbours(
            self.configuration.peers, cluster_id="c-1", context=self._no_tls, every_s=1.0, suspect_s=2.0
        )
        self.reporter = FarmReporter(
            self.node,
            self.configuration,
            checkers=self.checkers,
            switches=self.switches,
            neighbours=self.neighbours,
            certificate=lambda: self.certificate,
            boot_id="boot",
            start_id="start",
        )
        self.commands = FarmCommands(self.node, self.reporter, switches=self.switches, log=self.log)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SmallFarm]:
        ticking = asyncio.create_task(self.node.tick(0.01, lambda: True))
        self.node.step()
        try:
            yield self
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            self.log.close()

    def kinds(self) -> list[str]:
        return [str(event["kind"]) for event in self.log.tail(1000)]

    def _act(self, action: Action) -> None:
        self.begun.append(action)
        if action not in self.held:
            asyncio.get_running_loop().call_soon(self._end, action)

    def _end(self, action: Action) -> None:
        error = self.failing.get(action, "")
        match action:
            case Action.PREPARE:
                self.node.post(PrepareEnded(error))
            case Action.START:
                self.node.post(StartEnded(error))
            case _:
                self.node.post(StopEnded(error))

    @staticmethod
    def _no_tls() -> ssl.SSLContext:
        raise AssertionError("nobody is asked here")
