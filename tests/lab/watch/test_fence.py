"""A primary whose application cannot be killed takes its own machine down; its peer serves, and it comes back.

The application gets a companion that opens whatever path a client names. Here that path lies in a file system whose
server never answers, so the companion stays in the kernel through every SIGKILL, with the client's connection open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any, Final

import pytest

from lab.demo.api import ControlPlane, DemoFailed
from lab.demo.cluster import body
from lab.demo.nodes import Nodes
from lab.demo.writer import LedgerTarget, Writer
from lab.info import LabInfo
from tests.lab.watch.figures import note

pytestmark = [pytest.mark.lab, pytest.mark.watch]

NAME: Final = "demo"
LEDGER_PORT: Final = 8080
COMPANION_PORT: Final = 8081
DEADLINE_S: Final = 120.0
PROVISION_DEADLINE_S: Final = 600.0
HUNG: Final = "/run/hung"
COMPANION: Final = """
import socket

server = socket.create_server(("0.0.0.0", 8081))
while True:
    client, _ = server.accept()
    open(client.makefile().readline().strip())
"""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def wanted() -> dict[str, Any]:
    document = body("ledger") | {"remediation": {"mode": "off"}}
    application = document["application"]
    application["files"].append({"path": "companion.py", "content": COMPANION})
    application["startPrim"] = (
        'setsid /usr/bin/python3 "$MODULE_DIR/companion.py" </dev/null >/dev/null 2>&1 &\n' + (application["startPrim"])
    )
    application["stopTimeoutS"] = 5.0
    application["servicePorts"].append(COMPANION_PORT)
    rule = {"name": "companion", "protocol": "tcp", "frontendPort": COMPANION_PORT, "backendPort": COMPANION_PORT}
    document["network"]["rules"].append(rule)
    return document


async def test_an_application_that_cannot_be_killed(lab: LabInfo, tmp_path: Path) -> None:
    assert lab.control_plane_url is not None
    async with ControlPlane(lab.control_plane_url, lab.read_tokens().admin, str(lab.ca)) as api:
        _, _, headers = await api.call("PUT", f"/clusters/{NAME}", wanted())
        await api.wait_operation(headers, deadline_s=PROVISION_DEADLINE_S, show=lambda _: None)
        address = str((await api.cluster(NAME))["virtualIp"]["address"])
        nodes = Nodes(lab, tmp_path, NAME)
        await until_roles(nodes, ["PRIM ready", "SECOND ready"])
        roles = {node: (await nodes.ask(node, "status"))["role"] for node in ("a", "b")}
        serving = next(node for node, role in roles.items() if role == "PRIM")
        other = "b" if serving == "a" else "a"
        async with Writer(lambda: LedgerTarget(address, LEDGER_PORT), tmp_path / "journal.jsonl") as writer:
            await writer.wait_for(50, deadline_s=DEADLINE_S)
            client = await hang_the_companion(nodes, serving, address)
            began = time.time()
            with contextlib.suppress(DemoFailed):  # the order cannot succeed; its outcome is not the matter here
                await api.call("POST", f"/clusters/{NAME}:swap", {"reason": "fence"})
            reset_s = await ended_after_s(client)
            await until_served(nodes, other)
            await writer.wait_for(50, deadline_s=DEADLINE_S)
            outage_s = writer.outage_s(began, time.time())
            await until_roles(nodes, ["PRIM ready", "SECOND ready"])
            await writer.stop()
            target = LedgerTarget(address, LEDGER_PORT)
            try:
                missing = set(writer.acknowledged) - await target.everything()
            finally:
                await target.close()
        whole_s = time.time() - began
        note("cannot-be-killed", connection_reset_s=reset_s, outage_s=outage_s, repaired_s=whole_s)
        assert not missing
        log = await nodes.run(serving, "cat", "/var/lib/mirrorplane/events.jsonl")
        events = [json.loads(line) for line in log.splitlines()]
        fenced = next(event for event in events if event["kind"] == "fence.self")
        starts = [event["seq"] for event in events if event["kind"] == "agent.start"]
        assert len(starts) >= 2, "the machine came back"
        assert fenced["pids"]


async def ended_after_s(client: Connection) -> float:
    """Its server cannot close it and a machine without power does not either: the demotion must have."""
    began = time.monotonic()
    reader, writer = client
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(ConnectionResetError):  # a load balancer may pass the reset on as an end
            assert await reader.read(1) == b""
    writer.close()
    return time.monotonic() - began


async def hang_the_companion(nodes: Nodes, node: str, address: str) -> Connection:
    """Returns the client's side of a connection whose server is stuck in the kernel."""
    program = (Path(__file__).parent / "hung_mount.py").read_text()
    start = f"exec setsid --fork /usr/bin/python3 - {HUNG} <<'END' >/dev/null 2>&1\n{program}\nEND\n"
    await nodes.run(node, "sh", "-c", start)
    limit = time.monotonic() + DEADLINE_S
    while "hung" not in await nodes.run(node, "cat", "/proc/mounts"):
        assert time.monotonic() < limit, "the file system that hangs was not mounted"
        await asyncio.sleep(0.1)
    reader, writer = await asyncio.open_connection(address, COMPANION_PORT)
    writer.write(f"{HUNG}/file\n".encode())
    await writer.drain()
    while True:
        found = await nodes.run(node, "sh", "-c", "cat /proc/[0-9]*/wchan 2>/dev/null; true")
        if "request_wait_answer" in found:
            return reader, writer
        assert time.monotonic() < limit, "the companion does not hang"
        await asyncio.sleep(0.1)


async def until_served(nodes: Nodes, node: str) -> None:
    limit = time.monotonic() + DEADLINE_S
    while (await nodes.ask(node, "status"))["role"] not in ("ALONE", "PRIM"):
        assert time.monotonic() < limit, f"{node} did not take over"
        await asyncio.sleep(0.2)


async def until_roles(nodes: Nodes, wanted_roles: list[str]) -> None:
    limit = time.monotonic() + DEADLINE_S
    seen: dict[str, str] = {}
    said: dict[str, Any] = {}
    while sorted(seen.values()) != wanted_roles:
        assert time.monotonic() < limit, f"wanted {wanted_roles}, seen {seen}, said {said}"
        for node in ("a", "b"):
            with contextlib.suppress(DemoFailed):  # it is just being restarted
                status = await nodes.ask(node, "status")
                seen[node] = f"{status['role']} {status['phase']}"
                said[node] = {name: status.get(name) for name in ("rule", "sentence", "application", "wish")}
        await asyncio.sleep(0.2)
