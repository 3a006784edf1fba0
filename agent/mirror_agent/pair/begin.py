"""`mirrorctl enrol` on a machine of a pair without a control plane: node a founds, every other machine joins.

Guarantee: may be cut off at any moment and run again; an enrolled node is left as it is. A machine that replaces a node
has `join` in its boot document (`mirrorctl pair secret` puts it there) and founds nothing, whatever its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import MIRROR_NODES
from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.backoff import BackOff
from mirror_agent.net.enrolment import Enrolled, EnrolmentFailed
from mirror_agent.net.identity import NotEnrolled, load_agent_file
from mirror_agent.net.witness_founding import found_record
from mirror_agent.pair.documents import ADMISSION_PORT, PairFacts, PairModule, load_facts, load_module
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.founding import Founded, FoundRecord, found
from mirror_agent.pair.joining import DEADLINE_S, Joined, NotJoined, join
from mirror_agent.pair.service import wall_clock
from mirror_agent.paths import Paths

MODULE_FILE: Final = "module.json"


def is_pair(bootstrap: Path) -> bool:
    """Whether this boot document is of a pair. A file that is none is somebody else's complaint."""
    try:
        document = json.loads(bootstrap.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "pair" in document


async def begin(
    bootstrap: Path,
    paths: Paths,
    *,
    log: RecordEvent,
    insert: FoundRecord = found_record,
    clock: Clock = BOOT_CLOCK,
    wall: Callable[[], datetime] = wall_clock,
    back_off: BackOff | None = None,
    deadline_s: float = DEADLINE_S,
    port: int = ADMISSION_PORT,
) -> Enrolled | EnrolmentFailed:
    """Raises BadDocument for files that are missing or wrong, OSError of the disk."""
    try:
        return Enrolled(load_agent_file(paths), already=True)
    except NotEnrolled:
        facts, module = load_facts(bootstrap), load_module(paths.state_dir / MODULE_FILE)
    files, waiting = PairFiles(paths), back_off or BackOff()
    if facts.join or facts.node != MIRROR_NODES[0]:
        outcome = await join(
            files,
            lambda: load_facts(bootstrap),
            module,
            wall=wall,
            log=log,
            clock=clock,
            back_off=waiting,
            deadline_s=deadline_s,
            port=port,
        )
        match outcome:
            case Joined(agent):
                return Enrolled(agent, already=False)
            case NotJoined(reason):
                return EnrolmentFailed(reason)
    return await _found(files, facts, module, insert, wall, log, clock, waiting, deadline_s)


async def _found(
    files: PairFiles,
    facts: PairFacts,
    module: PairModule,
    insert: FoundRecord,
    wall: Callable[[], datetime],
    log: RecordEvent,
    clock: Clock,
    waiting: BackOff,
    deadline_s: float,
) -> Enrolled | EnrolmentFailed:
    end = clock.now_s() + deadline_s
    while True:
        outcome = await found(files, facts, module, insert=insert, now=wall(), log=log)
        if isinstance(outcome, Founded):
            return Enrolled(outcome.agent, already=False)
        delay_s = waiting.delay_s()
        if not outcome.again or clock.now_s() + delay_s > end:
            return EnrolmentFailed(outcome.reason)
        log("pair.waiting", reason=outcome.reason, delay_s=round(delay_s, 1))
        await clock.sleep(delay_s)
