"""One case from its quiet beginning to its quiet end, and the observations handed to the judge."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from lab.control import CommandRefused
from lab.fabric.commands import CommandFailed
from lab.faults.client import Journal, Writers
from lab.faults.judge import judge
from lab.faults.model import NODES, Case, Observed, Result, Verdict
from lab.faults.scene import CaseBroken, Scene, evidence, inside, paired, words
from lab.faults.stage import Stage
from lab.faults.watch import PERIOD_S, WRITE_EVERY

SETTLE_DEADLINE_S: Final = 90.0
BEFORE: Final = 15  # writes acknowledged by each client before the accident, and again after it
EQUAL_DEADLINE_S: Final = 15.0
POLL_S: Final = 0.1
BEYOND: Final = 2**62  # no id is as large
DATABASE: Final = "/data/ledger/ledger.db"
ROWS: Final = """
import json, sqlite3, sys
first = int(sys.argv[2])
database = sqlite3.connect(sys.argv[1], timeout=20)
rows = database.execute("SELECT id, text FROM entry WHERE id >= ?", (first,)).fetchall()
earlier, last = database.execute("SELECT count(*), max(id) FROM entry WHERE id < ?", (first,)).fetchone()
json.dump({"rows": rows, "earlier": earlier, "last": last or 0}, sys.stdout)
"""


class Unsettled(RuntimeError):
    """The pair is not PRIM and SECOND in the time it has; the message says what it is."""


async def settled(stage: Stage, deadline_s: float = SETTLE_DEADLINE_S) -> str:
    """The primary, once one node is PRIM ready, the other SECOND ready, and storage says the same."""
    limit = time.monotonic() + deadline_s
    while True:
        prim = paired(stage)
        records = stage.watch.records
        if prim is not None and records and records[-1].primary == prim and records[-1].in_sync == NODES:
            return prim
        if time.monotonic() > limit:
            states = ", ".join(
                f"{node} {words(s) if (s := stage.watch.latest(node)) else 'never seen'}" for node in NODES
            )
            raise Unsettled(f"not PRIM and SECOND within {deadline_s:.0f} s: {states}")
        await asyncio.sleep(POLL_S)


class Performer:
    """Runs cases on one stage; keeps what must hold from case to case."""

    def __init__(self, stage: Stage, build: Path, rows_before: int) -> None:
        self._stage = stage
        self._build = build
        self._rows_before = rows_before  # of all earlier cases, also of earlier runs on this cluster

    @classmethod
    async def begin(cls, stage: Stage, build: Path) -> Performer:
        document = await _ask_database(stage, await settled(stage), BEYOND)
        stage.next_id = int(document["last"]) + 1
        return cls(stage, build, int(document["earlier"]))

    async def perform(self, case: Case, run: int) -> tuple[Result, dict[str, Any]]:
        """The result, and the evidence if it failed. Raises nothing that belongs to the case."""
        began, began_wall = time.monotonic(), time.time()
        stage = self._stage
        journal = Journal(self._build / f"{stage.cluster}-journal.jsonl", stage.next_id)
        verdict = Verdict((), 0, 0.0, 0.0, 0, 0.0)
        broken: tuple[str, ...] = ()
        try:
            verdict = await self._run(case, journal)
        except (CaseBroken, Unsettled, CommandFailed, CommandRefused, TimeoutError, OSError) as error:
            broken = (f"{type(error).__name__}: {error}",)
        finally:
            stage.watch.journal = None
            stage.next_id = journal.next_id
            journal.close()
        findings = (*broken, *verdict.findings)
        result = Result(
            name=case.name,
            kind=case.kind,
            service=case.service.value,
            run=run,
            ok=not findings,
            findings=findings,
            lost_writes=verdict.lost_writes,
            acknowledged_writes=len({ack.id for ack in journal.acks}),
            outage_s=round(verdict.outage_s, 2),
            stale_s=round(verdict.stale_s, 2),
            primary_changes=verdict.changes,
            blind_s=round(verdict.blind_s, 2),
            duration_s=round(time.monotonic() - began, 1),
        )
        return result, evidence(stage, began_wall) if findings else {}

    async def _run(self, case: Case, journal: Journal) -> Verdict:
        stage = self._stage
        watch = stage.watch
        prim = await settled(stage)
        began_wall = time.time()
        async with Writers(journal, stage.address, stage.port, pause_s=case.pause_s) as writers:
            watch.journal, watch.write_every = journal, max(WRITE_EVERY, round(case.pause_s / PERIOD_S))
            scene = Scene(stage, prim, writers)
            await scene.writes(BEFORE, deadline_s=30.0)
            scene.renew()
            async with scene.undo:
                await case.fault(scene)
            await settled(stage)
            await scene.writes(BEFORE)
            ended = time.monotonic()
            watch.journal = None
        prim = await settled(stage)
        rows, earlier = await self._rows(prim, journal.first_id)
        trees = await self._trees()
        lost_earlier = max(0, self._rows_before - earlier)
        self._rows_before = earlier + len(rows)
        return judge(case, self._observed(journal, scene.began_at, ended, rows, lost_earlier, trees, began_wall))

    def _observed(
        self,
        journal: Journal,
        began: float,
        ended: float,
        rows: dict[int, str],
        earlier_rows_lost: int,
        trees: tuple[dict[str, str], dict[str, str]],
        began_wall: float,
    ) -> Observed:
        watch = self._stage.watch
        writes = [
            event
            for node in NODES
            for event in self._stage.events(node, began_wall)
            if event["kind"] == "witness.write" and event["outcome"] == "won"
        ]
        return Observed(
            began_at=began,
            ended_at=ended,
            values=dict(journal.values),
            acks=tuple(journal.acks),
            rows=rows,
            earlier_rows_lost=earlier_rows_lost,
            samples=tuple(watch.samples),
            alive=tuple(watch.alive),
            records=tuple(watch.records),
            won=tuple((int(e["epoch"]), str(e["node"]), str(e["rule"])) for e in sorted(writes, key=lambda e: e["at"])),
            trees=trees,
        )

    async def _rows(self, prim: str, first: int) -> tuple[dict[int, str], int]:
        document = await _ask_database(self._stage, prim, first)
        return {int(number): str(text) for number, text in document["rows"]}, int(document["earlier"])

    async def _trees(self) -> tuple[dict[str, str], dict[str, str]]:
        """Both copies as they lie on the data disks; equal within a moment of quiet, or returned as they are."""
        limit = time.monotonic() + EQUAL_DEADLINE_S
        while True:
            one, two = [await asyncio.to_thread(checksums, self._stage.places[node].replicated) for node in NODES]
            if one == two or time.monotonic() > limit:
                return one, two
            await asyncio.sleep(POLL_S)


async def _ask_database(stage: Stage, prim: str, first: int) -> Any:
    """What the application holds, read from its database on the primary, not from its answers."""
    output = await inside(stage.places[prim], "/usr/bin/python3", "-c", ROWS, DATABASE, str(first))
    return json.loads(output)


def checksums(root: Path) -> dict[str, str]:
    """Relative path → kind, mode, owner and content of every entry."""
    found: dict[str, str] = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder) / name
            status = path.lstat()
            content = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {content}"
    return found
