"""At a demotion the connections of the service ports are reset, also those the application does not own."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.core.actions import Action, KillApplication, StopApplication
from mirror_agent.core.model import App
from mirror_agent.net.witness import TableWitness
from mirror_agent.node.build import mirror_config
from mirror_agent.node.engine import Engine
from mirror_agent.node.fence import SelfFence
from mirror_agent.node.hands import Hands
from mirror_agent.paths import Paths

from tests.agent_samples import Recorded, application, configuration, eventually
from tests.unit.agent_node.small_node import SmallNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="destroying sockets needs root")


async def no_relay() -> None:
    """Nothing holds the ports."""


@pytest.mark.parametrize("action", [StopApplication(), KillApplication()])
async def test_a_client_sees_a_reset(tmp_path: Path, action: Action) -> None:
    small, paths, log = SmallNode(tmp_path), Paths(tmp_path), Recorded()
    app, settings = application(), configuration()
    runner = ApplicationRunner(app, tmp_path / "module", "a", log, paths=paths)
    surroundings = Surroundings(tmp_path / "module", dict, list)
    witness = TableWitness(settings.witness)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hands = Hands(
            small.node,
            witness=witness,
            engine=Engine(mirror_config(settings, paths), on_report=lambda _: None, log=log),
            runner=runner,
            checkers=NodeCheckers(app, surroundings, on_trip=lambda *_: None, log=log),
            service_ports=(port,),
            relay_ended=no_relay,
            fence=SelfFence(log=small.log, strike=lambda: None),
            start_id="s",
            log=small.log,
        )
        with socket.create_connection(server.getsockname(), timeout=10) as client, server.accept()[0]:
            small.node.state = small.node.state.with_(app=App.RUNNING)
            hands.act(action)
            with pytest.raises(ConnectionResetError):
                await asyncio.to_thread(client.recv, 1)
            await eventually(lambda: not small.node.lanes.busy(action.lane), "the action has ended")
    await small.close()
    await witness.close()
    await runner.close()
