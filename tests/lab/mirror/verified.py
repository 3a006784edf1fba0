"""The oracle of the pair's tests: the engines' own verify, asked at the end, must find the copies identical."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mirror_agent.mirror.verify_record import VerifyRecord, VerifyStore

from tests.lab.mirror.pair import DEADLINE_S, Node, Pair, differences, tree


async def run_verify(node: Node, *, repair: bool = False) -> VerifyRecord:
    """Begins a verify on the primary and waits for its end; the record it left there."""
    await node.engine.verify(repair=repair)
    await node.until(lambda status: not status.verify.running, DEADLINE_S)
    record = last_record(node)
    assert record is not None, "a verify that ended leaves a record"
    return record


def last_record(node: Node) -> VerifyRecord | None:
    return VerifyStore(node.state_dir).last


def both(here: Path, there: Path) -> tuple[dict[str, object], dict[str, object]]:
    return tree(here, times=False), tree(there, times=False)


async def verify(pair: Pair) -> None:
    """If one node is primary and the other its live replica: a verify finds nothing, and neither does a comparison of
    the two trees by the test itself once the file times have followed."""
    primary = next((node for node in (pair.a, pair.b) if node.handle and node.status.mode == "primary"), None)
    if primary is None or primary.status.link != "live" or primary.status.acknowledging == "parked":
        return
    record = await run_verify(primary)
    found = [f"{one.path}: {one.kind} {one.detail}" for one in record.listed]
    assert record.outcome == "identical", f"verify: {record.outcome} {record.reason} {found}"
    other = pair.b if primary is pair.a else pair.a
    for here, there in zip(primary.roots, other.roots, strict=True):
        left, right = await asyncio.to_thread(both, here, there)
        assert not differences(left, right), differences(left, right)
