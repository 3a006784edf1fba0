"""An announced reboot of the serving node: it hands over, lets the platform begin, comes back and catches up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.control import LabClient
from lab.demo.api import DemoFailed
from lab.demo.nodes import Nodes
from lab.demo.writer import LedgerTarget, Writer

PORT: Final = 8080
FIRST_ID: Final = 1_000_000  # beyond every id that was written before
NOTICE_S: Final = 900.0
DEADLINE_S: Final = 120.0
EVENTS: Final = "/var/lib/mirrorplane/events.jsonl"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Maintained:
    """`missing_writes`: acknowledged meanwhile and not there at the end."""

    outage_s: float
    in_sync_s: float
    missing_writes: int


async def maintain_the_primary(nodes: Nodes, address: str, build: Path) -> Maintained:
    """Fails when the node did anything else than hand over, approve, restart and follow."""
    roles = {node: await nodes.ask(node, "status") for node in ("a", "b")}
    serving = next(node for node, status in roles.items() if status["role"] == "PRIM")
    other = "b" if serving == "a" else "a"
    boot = await nodes.run(serving, "cat", BOOT_ID)
    async with Writer(lambda: LedgerTarget(address, PORT), build / "maintenance-journal.jsonl", FIRST_ID) as writer:
        await writer.wait_for(50, deadline_s=DEADLINE_S)
        began = time.time()
        client = LabClient(nodes.info.control_socket)
        await client.acall("event", node=f"{nodes.cluster}/{serving}", type="Reboot", notice_s=NOTICE_S)
        await _until_restarted(nodes, serving, boot)
        await _until(nodes, {other: "PRIM ready", serving: "SECOND ready"})
        in_sync_s = round(time.time() - began, 1)
        assert in_sync_s < NOTICE_S, "it did not wait for its time"
        await writer.wait_for(50, deadline_s=DEADLINE_S)
        await writer.stop()
        outage_s = round(writer.outage_s(began, time.time()), 2)
        target = LedgerTarget(address, PORT)
        try:
            missing = set(writer.acknowledged) - await target.everything()
        finally:
            await target.close()
    said = [event for event in await logged(nodes, serving) if event["kind"].startswith("scheduled-event.")]
    kinds = [event["kind"] for event in said]
    handed_over = next(event for event in said if event["kind"] == "scheduled-event.handed-over")
    assert handed_over["succeeded"] is True, handed_over
    assert kinds.index("scheduled-event.handed-over") < kinds.index("scheduled-event.approved"), kinds
    return Maintained(outage_s, in_sync_s, len(missing))


async def logged(nodes: Nodes, node: str) -> list[dict[str, Any]]:
    """The node's whole event log, of earlier boots too."""
    return [json.loads(line) for line in (await nodes.run(node, "cat", EVENTS)).splitlines()]


async def _until_restarted(nodes: Nodes, node: str, boot: str) -> None:
    limit = time.monotonic() + DEADLINE_S
    now = boot
    while now == boot:
        assert time.monotonic() < limit, f"{node} was not restarted"
        with contextlib.suppress(DemoFailed):  # it is just being restarted
            now = await nodes.run(node, "cat", BOOT_ID)
        await asyncio.sleep(0.2)


async def _until(nodes: Nodes, wanted: dict[str, str]) -> None:
    limit = time.monotonic() + DEADLINE_S
    seen: dict[str, str] = {}
    while seen != wanted:
        assert time.monotonic() < limit, f"wanted {wanted}, seen {seen}"
        for node in wanted:
            with contextlib.suppress(DemoFailed):  # it is just being restarted
                status = await nodes.ask(node, "status")
                seen[node] = f"{status['role']} {status['phase']}"
        await asyncio.sleep(0.2)
